"""The early end of one generation: as an answer, where its client cancels, or with an error."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from octavo.errors import OctavoError

_T = TypeVar("_T")


class Cancellation:
    """Asked for at any time; whoever carries the generation at that moment acts on it."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        self._error: OctavoError | None = None
        self._act: Callable[[OctavoError | None], None] | None = None

    def ask(self, error: OctavoError | None = None) -> None:
        """Cancels the generation; with an error, that is how it fails."""
        self._error = error
        self._asked.set()
        if self._act is not None:
            self._act(error)

    def when_asked(self, act: Callable[[OctavoError | None], None]) -> None:
        """Calls `act` with the error when the end is asked for, or now if it was."""
        self._act = act
        if self._asked.is_set():
            act(self._error)

    async def interrupt(self, work: Coroutine[Any, Any, _T]) -> _T | None:
        """The result of `work`, or None where the cancel came first; raises its error."""
        working = asyncio.ensure_future(work)
        asked = asyncio.ensure_future(self._asked.wait())
        try:
            await asyncio.wait({working, asked}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            if self._error is not None:
                raise self._error
            return None
        finally:
            working.cancel()
            asked.cancel()
