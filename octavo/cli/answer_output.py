"""What a command prints of a generation: its text as it comes, or its events as JSON."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Protocol

from octavo.client.generation_types import Accepted, Delta, Event, Finished, FinishReason, Usage
from octavo.errors import OctavoError

_BETWEEN_OUTPUTS = "---\n"
_ENDS = {
    FinishReason.LENGTH: "stopped at --max-tokens",
    FinishReason.CONTEXT_LENGTH: "stopped: the model's context is full",
}


class AnswerOutput(Protocol):
    """Prints one generation."""

    def show(self, event: Event) -> None:
        """Prints what is new."""

    def fail(self, error: OctavoError) -> None:
        """Prints a failure, where it belongs to the output."""

    def end(self) -> None:
        """Ends the line, however the generation ended."""


@contextlib.contextmanager
def answer_output(*, json: bool, verbose: bool = False) -> Iterator[AnswerOutput]:
    """How a command prints, by its flags. Failures pass through it, and a Ctrl-C."""
    output = JsonOutput() if json else TextOutput(verbose=verbose)
    try:
        yield output
    except OctavoError as error:
        output.fail(error)
        raise
    finally:
        output.end()


class TextOutput:
    """The text of an answer. Several outputs come one after the other: the first as it is made, the
    next once the one before has ended.
    """

    def __init__(self, *, verbose: bool) -> None:
        self._verbose = verbose
        self._accepted: Accepted | None = None
        self._waiting: dict[int, list[str]] = defaultdict(list)
        self._ended: dict[int, Finished] = {}
        self._shown_index = 0
        self._last = "\n"

    def show(self, event: Event) -> None:
        match event:
            case Accepted():
                self._accepted = event
            case Delta():
                self._waiting[event.output_index].append(event.text)
                self._flush()
            case Finished():
                self._ended[event.output_index] = event
                self._advance()
            case Usage():
                self._show_statistics(event)

    def fail(self, error: OctavoError) -> None:
        """Prints nothing: the command says it on stderr."""

    def end(self) -> None:
        if not self._last.endswith("\n"):
            self._write("\n")

    def _advance(self) -> None:
        """On to the next output, and over those that have ended before."""
        while (ended := self._ended.pop(self._shown_index, None)) is not None:
            self._flush()
            self._note(ended)
            self._shown_index += 1
            if self._waiting.get(self._shown_index) or self._shown_index in self._ended:
                self.end()
                self._write(_BETWEEN_OUTPUTS)
                self._flush()

    def _flush(self) -> None:
        self._write("".join(self._waiting.pop(self._shown_index, ())))

    def _note(self, finished: Finished) -> None:
        """Says to a person why an answer ends in the middle."""
        if finished.reason in _ENDS and sys.stdout.isatty():
            self.end()
            print(f"({_ENDS[finished.reason]})", file=sys.stderr)

    def _show_statistics(self, usage: Usage) -> None:
        if self._verbose and self._accepted is not None:
            self.end()
            print(statistics(self._accepted, usage), file=sys.stderr)

    def _write(self, text: str) -> None:
        if text:
            self._last = text
            sys.stdout.write(printable(text) if sys.stdout.isatty() else text)
            sys.stdout.flush()


class JsonOutput:
    """Each event as one JSON object on a line, with its kind as `event`; a failure is the last."""

    def show(self, event: Event) -> None:
        print_json({"event": type(event).__name__.lower(), **dataclasses.asdict(event)})

    def fail(self, error: OctavoError) -> None:
        names = ("reason", "message", "metadata", "retry_delay_ms")
        values = {name: getattr(error, name) for name in names}
        print_json({"event": "error", "code": error.code.name, **values})

    def end(self) -> None:
        """Does nothing: every line has ended."""


def print_json(value: dict[str, Any]) -> None:
    """One object on one line; bytes become lists of numbers."""
    print(json.dumps(value, ensure_ascii=False, default=list), flush=True)


def statistics(accepted: Accepted, usage: Usage) -> str:
    """Counts and times of an answer, in one line."""
    tokens, seconds = usage.completion_token_count, usage.decode_ms / 1_000
    rate = f", then {(tokens - 1) / seconds:.1f} tokens/s" if tokens > 1 and seconds > 0 else ""
    return (
        f"[{accepted.request_id}: {usage.prompt_token_count} + {tokens} tokens, first after "
        f"{usage.first_token_ms:.0f} ms{rate}; seed {accepted.seed}]"
    )


def printable(text: str) -> str:
    """Without control characters: what a model writes must not steer a terminal."""
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc")
