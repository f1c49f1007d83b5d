"""Gathers the events of one generation, as they come, into the whole."""

from __future__ import annotations

from octavo.client.generation_types import (
    Accepted,
    Delta,
    Event,
    Finished,
    Generation,
    Output,
    Token,
    Usage,
)
from octavo.errors import DataLossError, OctavoError


class Gathering:
    """Ends with Usage or with a failure, and holds nothing back in between."""

    def __init__(self) -> None:
        self._accepted: Accepted | None = None
        self._texts: dict[int, list[str]] = {}
        self._tokens: dict[int, list[Token]] = {}
        self._finished: dict[int, Finished] = {}
        self._usage: Usage | None = None
        self._failure: OctavoError | None = None

    @property
    def has_begun(self) -> bool:
        """Whether an event has come."""
        return self._accepted is not None

    @property
    def has_ended(self) -> bool:
        """Whether nothing more comes."""
        return self._usage is not None or self._failure is not None

    def add(self, event: Event) -> None:
        """Takes the next event."""
        match event:
            case Accepted():
                self._accepted = event
            case Delta():
                self._texts.setdefault(event.output_index, []).append(event.text)
                self._tokens.setdefault(event.output_index, []).extend(event.tokens)
            case Finished():
                self._finished[event.output_index] = event
            case Usage():
                self._usage = event

    def fail(self, error: OctavoError) -> None:
        """Takes the failure that came in place of an event; what has ended stays as it is."""
        if not self.has_ended:
            self._failure = error

    def result(self) -> Generation:
        """The whole, once it has ended. Raises what it failed with."""
        if self._failure is not None:
            raise self._failure
        if self._accepted is None or self._usage is None or not self._finished:
            raise ended_early()
        outputs = tuple(self._output(finished) for _, finished in sorted(self._finished.items()))
        return Generation(accepted=self._accepted, outputs=outputs, usage=self._usage)

    def _output(self, finished: Finished) -> Output:
        index = finished.output_index
        return Output(
            output_index=index,
            text="".join(self._texts.get(index, ())),
            tokens=tuple(self._tokens.get(index, ())),
            finished=finished,
        )


def ended_early() -> DataLossError:
    """The error of a server that ends a stream without the end of its generation."""
    return DataLossError("The server ended the stream too early.", reason="STREAM_TRUNCATED")
