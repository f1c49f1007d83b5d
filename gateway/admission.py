"""Bounds what is open at once: requests, each as often as it has outputs, and their bytes.

Overload answers at once with RESOURCE_EXHAUSTED and a delay; nothing waits here. A request that is
past a limit by itself is INVALID_ARGUMENT: it would be refused by an idle gateway too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from octavo.errors import InWords, ResourceExhaustedError, UnavailableError, invalid_field

RETRY_DELAY_MS = 1_000


class Admission:
    """Counts what is open."""

    def __init__(self, *, max_requests: int, max_bytes: int) -> None:
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._num_requests = 0
        self._num_outputs = 0
        self._num_bytes = 0
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def num_requests(self) -> int:
        """Counts the requests that are open."""
        return self._num_requests

    @property
    def num_bytes(self) -> int:
        """Counts the bytes that they brought."""
        return self._num_bytes

    @property
    def is_draining(self) -> bool:
        """Whether new requests are refused because the process is about to end."""
        return self._draining

    def drain(self) -> None:
        """Refuses what is new from now on."""
        self._draining = True

    async def wait_until_idle(self) -> None:
        """Returns once no request is open."""
        await self._idle.wait()

    @contextmanager
    def admit(
        self, num_bytes: int, *, num_outputs: int = 1, input_field: str = "prompt"
    ) -> Iterator[None]:
        """Holds a place for each output of one request; raises where there are not as many.
        `input_field` is what holds its bytes.
        """
        self._check_alone(num_bytes, num_outputs, input_field)
        self._check(num_bytes, num_outputs)
        self._num_outputs += num_outputs
        self._num_requests += 1
        self._num_bytes += num_bytes
        self._idle.clear()
        try:
            yield
        finally:
            self._num_requests -= 1
            self._num_outputs -= num_outputs
            self._num_bytes -= num_bytes
            if not self._num_requests:
                self._idle.set()

    def _check_alone(self, num_bytes: int, num_outputs: int, input_field: str) -> None:
        """Refuses what has no place even where nothing else is open: a retry would be in vain."""
        if num_outputs > self._max_requests:
            limit = f"at most {self._max_requests}, the gateway's limit of open requests"
            raise invalid_field("sampling.n", num_outputs, limit)
        if num_bytes > self._max_bytes:
            limit = f"at most {self._max_bytes} bytes, the gateway's limit of all open requests"
            raise invalid_field(input_field, InWords(f"{num_bytes} bytes"), limit)

    def _check(self, num_bytes: int, num_outputs: int) -> None:
        if self._draining:
            raise UnavailableError(
                "This gateway is about to end; another one takes requests.",
                reason="DRAINING",
                retry_delay_ms=RETRY_DELAY_MS,
            )
        if self._num_outputs + num_outputs > self._max_requests:
            raise _full("open requests", self._num_outputs, num_outputs, self._max_requests)
        if self._num_bytes + num_bytes > self._max_bytes:
            raise _full("bytes of open requests", self._num_bytes, num_bytes, self._max_bytes)


def _full(what: str, num_open: int, num_more: int, limit: int) -> ResourceExhaustedError:
    return ResourceExhaustedError(
        f"The gateway has {num_open} {what} and would have {num_open + num_more}; "
        f"its limit is {limit}.",
        reason="GATEWAY_FULL",
        metadata={
            "field": what.replace(" ", "_"),
            "value": str(num_open + num_more),
            "limit": str(limit),
        },
        retry_delay_ms=RETRY_DELAY_MS,
    )
