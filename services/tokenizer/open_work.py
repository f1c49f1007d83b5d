"""What a process must finish before it may end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class OpenWork:
    """Counts calls and decoders that are open."""

    def __init__(self) -> None:
        self._num_open = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @contextmanager
    def call(self) -> Iterator[None]:
        """Counts a call while it lasts."""
        self.change(1)
        try:
            yield
        finally:
            self.change(-1)

    def change(self, by: int) -> None:
        """Counts `by` more."""
        self._num_open += by
        if self._num_open:
            self._idle.clear()
        else:
            self._idle.set()

    async def finished(self, limit_s: float) -> None:
        """Returns once nothing is open, or after `limit_s`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._idle.wait()
