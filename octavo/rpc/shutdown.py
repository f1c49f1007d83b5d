"""How a process hears that it is to end: by signals, or by an operator's call."""

from __future__ import annotations

import asyncio
import os
import signal


class Shutdown:
    """The first SIGTERM or SIGINT asks for the end; a second one ends the process at once."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        self._signalled = False

    def ask(self) -> None:
        """Asks for the end, as a first signal does; the next signal still counts as the first."""
        self._asked.set()

    async def wait(self) -> None:
        """Takes signals from now on, and returns once the end is asked for."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        await self._asked.wait()

    def _on_signal(self) -> None:
        if self._signalled:
            os._exit(1)
        self._signalled = True
        self.ask()
