"""Server-sent events: one writer, a ping when it would be silent for long.

Headers go out with the first write, so that a failure before it can still choose its status.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from starlette.types import Send

from gateway.openai.errors import ApiError
from gateway.openai.json_text import json_bytes
from gateway.openai.limits import HttpLimits

DONE = b"data: [DONE]\n\n"
_PING = b": ping\n\n"
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


class StalledReaderError(Exception):
    """The client did not read for longer than the limit."""


def error_event(error: ApiError) -> bytes:
    """The last event of a stream that failed."""
    return b"data: " + json_bytes(error.body()) + b"\n\n"


class EventStream:
    """The body of one response. Writes may come from two tasks: the answer and the ping."""

    def __init__(self, send: Send, limits: HttpLimits) -> None:
        self._send = send
        self._limits = limits
        self._turn = asyncio.Lock()
        self._last_write_at = asyncio.get_running_loop().time()
        self.has_started = False

    async def write(self, events: bytes) -> None:
        """Sends events; raises StalledReaderError where the client does not take them."""
        await self._write(events, more=True)

    async def end(self, events: bytes) -> None:
        """Sends the last events and ends the response."""
        await self._write(events, more=False)

    @contextlib.asynccontextmanager
    async def pinging(self) -> AsyncIterator[None]:
        """Within it the stream is never silent for longer than the interval."""
        pings = asyncio.create_task(self._ping())
        try:
            yield
        finally:
            pings.cancel()
            await asyncio.gather(pings, return_exceptions=True)

    async def _write(self, events: bytes, *, more: bool) -> None:
        async with self._turn:
            try:
                async with asyncio.timeout(self._limits.stall_limit_s):
                    await self._start()
                    await self._send(
                        {"type": "http.response.body", "body": events, "more_body": more}
                    )
            except TimeoutError:
                raise StalledReaderError from None
            self._last_write_at = asyncio.get_running_loop().time()

    async def _start(self) -> None:
        if not self.has_started:
            self.has_started = True
            await self._send({"type": "http.response.start", "status": 200, "headers": _HEADERS})

    async def _ping(self) -> None:
        """A comment, which clients skip: proxies and clients give up on silence."""
        while True:
            now = asyncio.get_running_loop().time()
            due_at = self._last_write_at + self._limits.ping_interval_s
            if now < due_at:
                await asyncio.sleep(due_at - now)
            else:
                await self.write(_PING)
