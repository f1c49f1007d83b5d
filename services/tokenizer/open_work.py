"""What a process must finish before it may end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

# A gateway that has not heard of the end yet may send the next act of a request that is under way.
QUIET_S = 0.5


class OpenWork:
    """Counts calls and decoders that are open."""

    def __init__(self, quiet_s: float = QUIET_S) -> None:
        self._quiet_s = quiet_s
        self._num_open = 0
        self._num_changes = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def num_open(self) -> int:
        """Counts what is open."""
        return self._num_open

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
        self._num_changes += 1
        if self._num_open:
            self._idle.clear()
        else:
            self._idle.set()

    async def finished(self, limit_s: float) -> None:
        """Returns once nothing was open for a moment, or after `limit_s`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                num_changes = -1
                while self._num_changes != num_changes:
                    await self._idle.wait()
                    num_changes = self._num_changes
                    await asyncio.sleep(self._quiet_s)
