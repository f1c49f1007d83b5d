"""Writes to a client that may not read: a write that stalls ends the call, and with it the request.

Small messages disappear into gRPC's buffers for long, so that a slow reader costs memory only,
bounded by its own output. Once they are full, a write waits; a client that lets one wait for longer
than the limit gets RESOURCE_EXHAUSTED, whenever it reads on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from octavo.errors import ResourceExhaustedError

STALL_LIMIT_S = 30.0

Response = TypeVar("Response")


class Writer(Generic[Response]):
    """The sending side of one call."""

    def __init__(self, write: Callable[[Response], Awaitable[None]], stall_limit_s: float) -> None:
        self._write = write
        self._stall_limit_s = stall_limit_s

    async def write(self, response: Response) -> None:
        """Sends one message; raises ResourceExhaustedError where the client does not take it."""
        try:
            # Not wait_for: before Python 3.12 it can swallow a cancel.
            async with asyncio.timeout(self._stall_limit_s):
                await self._write(response)
        except TimeoutError:
            raise _slow_reader(self._stall_limit_s) from None


def _slow_reader(limit_s: float) -> ResourceExhaustedError:
    limit = f"{limit_s:g} s"
    return ResourceExhaustedError(
        f"The client did not read for more than {limit}.",
        reason="SLOW_READER",
        metadata={"limit": limit},
    )
