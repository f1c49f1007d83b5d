"""The events of one request between the streams that make them and the client that reads them.

A reader that keeps up gets every delta as it comes. What queues up while it does not becomes one
delta per output, so that a slow reader costs memory bounded by the text of its own request. One
that asked for the likeliest tokens is dropped before they take too much.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from gateway.answer_size import MAX_TOKENS_HELD, num_tokens_in
from gateway.events import Accepted, Delta, Event, Finished, Token, Usage
from octavo.errors import OctavoError, ResourceExhaustedError


class _PendingDelta:
    """A delta that still grows."""

    def __init__(self, output_index: int) -> None:
        self.output_index = output_index
        self.texts: list[str] = []
        self.tokens: list[Token] = []

    def freeze(self) -> Delta:
        return Delta(
            output_index=self.output_index, text="".join(self.texts), tokens=tuple(self.tokens)
        )


class EventBuffer:
    """Filled without waiting; read by one reader with `async for`."""

    def __init__(self) -> None:
        self._waiting: deque[Accepted | Finished | Usage | _PendingDelta] = deque()
        self._growing: dict[int, _PendingDelta] = {}
        self._error: OctavoError | None = None
        self._ended = False
        self._changed = asyncio.Event()
        self._num_tokens = 0

    def add(self, event: Accepted | Finished | Usage) -> None:
        """Adds an event that is never merged."""
        if self._ended:
            return
        if isinstance(event, Finished):
            self._growing.pop(event.output_index, None)
        self._waiting.append(event)
        self._changed.set()

    def add_delta(self, output_index: int, text: str, tokens: Sequence[Token]) -> None:
        """Adds new text and tokens to what the reader has not seen yet of this output."""
        if self._ended or not (text or tokens):
            return
        pending = self._growing.get(output_index)
        if pending is None:
            pending = self._growing[output_index] = _PendingDelta(output_index)
            self._waiting.append(pending)
        pending.texts.append(text)
        pending.tokens.extend(tokens)
        self._changed.set()
        self._num_tokens += num_tokens_in(tokens)
        if self._num_tokens > MAX_TOKENS_HELD:
            self.fail(_slow_reader())

    def end(self) -> None:
        """Ends the iteration after what waits."""
        self._ended = True
        self._changed.set()

    def fail(self, error: OctavoError) -> None:
        """Raises `error` from the iteration after what waits; the first end or failure holds."""
        if not self._ended:
            self._error = error
            self.end()

    @property
    def has_ended(self) -> bool:
        """Whether nothing more can be added."""
        return self._ended

    def __aiter__(self) -> EventBuffer:
        return self

    async def __anext__(self) -> Event:
        while not self._waiting:
            if self._error is not None:
                raise self._error
            if self._ended:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        return self._frozen(self._waiting.popleft())

    def _frozen(self, event: Accepted | Finished | Usage | _PendingDelta) -> Event:
        if not isinstance(event, _PendingDelta):
            return event
        self._growing.pop(event.output_index, None)
        self._num_tokens -= num_tokens_in(event.tokens)
        return event.freeze()


def _slow_reader() -> ResourceExhaustedError:
    limit = f"{MAX_TOKENS_HELD} tokens"
    return ResourceExhaustedError(
        f"More than {limit} waited for the client to read them.",
        reason="SLOW_READER",
        metadata={"limit": limit},
    )
