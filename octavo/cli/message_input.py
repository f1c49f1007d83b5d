"""Reads messages: what a person types, many lines pasted or in quotes, and what is piped in."""

from __future__ import annotations

import contextlib
import sys

from octavo.errors import invalid_field

QUOTES = '"""'
_PROMPT = "> "
_PROMPT_INSIDE = ". "


def is_terminal() -> bool:
    """Whether a person types."""
    return sys.stdin is not None and sys.stdin.isatty()


def piped_text() -> str:
    """All that is piped in. Raises InvalidArgumentError where it is no text."""
    try:
        return "" if sys.stdin is None else sys.stdin.read()
    except UnicodeDecodeError as error:
        raise invalid_field("stdin", error.object[error.start], "text in UTF-8") from None


def read_message() -> str | None:
    """The next message; None at the end of input (Ctrl-D). A Ctrl-C is KeyboardInterrupt."""
    line = _read_line(_PROMPT)
    if line is None or not line.lstrip().startswith(QUOTES):
        return line
    lines = [line.lstrip().removeprefix(QUOTES)]
    while QUOTES not in lines[-1]:
        line = _read_line(_PROMPT_INSIDE)
        if line is None:
            break
        lines.append(line)
    return "\n".join(lines).partition(QUOTES)[0].strip("\n")


def edit_lines() -> None:
    """Gives the input line its editing keys and history; pasted lines stay one message."""
    with contextlib.suppress(ImportError):  # a Python without readline reads plain lines
        import readline  # noqa: PLC0415 - optional

        readline.parse_and_bind("set enable-bracketed-paste on")


def _read_line(prompt: str) -> str | None:
    try:
        if sys.stdout.isatty():
            return input(prompt)
        print(prompt, end="", file=sys.stderr, flush=True)  # stdout holds answers alone
        return input()
    except EOFError:
        return None
