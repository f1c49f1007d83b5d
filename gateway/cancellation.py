"""A client's cancel of one generation inside a session, which ends as an answer, not an error."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


class Cancellation:
    """Asked for once; whoever carries the generation at that moment acts on it."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        self._act: Callable[[], None] | None = None

    def ask(self) -> None:
        """Cancels the generation."""
        self._asked.set()
        if self._act is not None:
            self._act()

    def when_asked(self, act: Callable[[], None]) -> None:
        """Calls `act` when the cancel is asked for, or now if it was."""
        self._act = act
        if self._asked.is_set():
            act()

    async def interrupt(self, work: Coroutine[Any, Any, _T]) -> _T | None:
        """The result of `work`, or None where the cancel came first."""
        working = asyncio.ensure_future(work)
        asked = asyncio.ensure_future(self._asked.wait())
        try:
            await asyncio.wait({working, asked}, return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else None
        finally:
            working.cancel()
            asked.cancel()
