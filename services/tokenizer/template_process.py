"""Renders a chat template: the helper process. One JSON frame in, one out; see template_runner.py.

The template comes from the checkpoint and is not trusted. Jinja's sandbox keeps it from Python's
insides but not from taking memory or time, so this process has a limit on its memory, its parent
has one on time, and it holds nothing that would be missed. It imports jinja2 and the standard
library only.
"""

from __future__ import annotations

import json
import resource
import struct
import sys
from datetime import datetime
from typing import Any, BinaryIO, NoReturn

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox

HEADER = struct.Struct(">I")  # length of the JSON that follows, in bytes
_MAX_CAUSE = 512  # characters of an error: a template may raise one of any size


class _Generation(jinja2.ext.Extension):
    """`{% generation %}` marks the assistant's text for training; here it renders as its body."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it so

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(format: str) -> str:
    return datetime.now().strftime(format)  # noqa: DTZ005 - the date where the server stands


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """The filter that templates are written for; Jinja's own escapes HTML."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _compile(source: str) -> jinja2.Template:
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.loopcontrols", _Generation],
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment.from_string(source)


def _render(template: jinja2.Template, variables: dict[str, Any], max_bytes: int) -> str:
    parts: list[str] = []
    num_bytes = 0
    for part in template.generate(**variables):
        num_bytes += len(part.encode())
        if num_bytes > max_bytes:
            raise jinja2.TemplateError(f"the result is larger than {max_bytes} bytes")
        parts.append(part)
    return "".join(parts)


def _answer(template: jinja2.Template, request: dict[str, Any]) -> dict[str, Any]:
    """The texts of all sets of variables. Only the first must render: it is what was asked for."""
    first, *others = request["variables"]
    try:
        texts: list[str | None] = [_render(template, first, request["max_bytes"])]
    except MemoryError:
        return {"error": "the template needs more memory than it may have"}
    except Exception as error:  # noqa: BLE001 - whatever a template does is the template's error
        return {"error": f"{error}"[:_MAX_CAUSE] or type(error).__name__}
    for other in others:
        try:
            texts.append(_render(template, other, request["max_other_bytes"]))
        except Exception:  # noqa: BLE001 - the same
            texts.append(None)
    return {"texts": texts}


def read_frame(stream: BinaryIO) -> dict[str, Any] | None:
    """The next frame, None at the end."""
    header = stream.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    frame: dict[str, Any] = json.loads(stream.read(*HEADER.unpack(header)))
    return frame


def frame_of(value: dict[str, Any]) -> bytes:
    """A frame that holds `value`."""
    data = json.dumps(value).encode()
    return HEADER.pack(len(data)) + data


def main(memory_bytes: int) -> None:
    """Compiles the template of the first frame, then renders one frame after the other."""
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    frames, answers = sys.stdin.buffer, sys.stdout.buffer
    first = read_frame(frames)
    if first is None:
        return
    try:
        template = _compile(first["template"])
    except Exception as error:  # noqa: BLE001 - a template that does not compile is reported
        cause = f"the chat template cannot be compiled: {error}"
        answers.write(frame_of({"error": cause[:_MAX_CAUSE]}))
        answers.flush()
        return
    answers.write(frame_of({"texts": []}))
    answers.flush()
    while (request := read_frame(frames)) is not None:
        answers.write(frame_of(_answer(template, request)))
        answers.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))
