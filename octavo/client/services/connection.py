"""One server as a client sees it: its health is watched, a two-way stream is open while it serves.

Readiness follows grpc.health.v1 (Watch) and the connection: a lost connection, a lost stream or
NOT_SERVING flips it at once. A lost connection is opened again, with backoff, until `close`.
"""

from __future__ import annotations

import abc
import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc.aio
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc

from octavo.errors import OctavoError, UnavailableError
from octavo.rpc.channel import open_channel
from octavo.rpc.status import error_from_rpc

log = structlog.get_logger()

_SERVING = health_pb2.HealthCheckResponse.SERVING


@dataclass(frozen=True, kw_only=True, slots=True)
class Backoff:
    """How long to wait before a connection is tried again; doubles up to `longest_s`."""

    first_s: float = 0.05
    longest_s: float = 0.5

    def delay_s(self, attempt: int) -> float:
        """The wait after `attempt` failures in a row; jitter keeps replicas out of step."""
        delay_s = min(self.longest_s, self.first_s * 2.0 ** min(attempt, 16))
        return delay_s * random.uniform(0.8, 1.2)  # noqa: S311 - no secret


class Connection(abc.ABC):
    """Keeps one address connected. Subclasses say what is asked of the server and held open."""

    def __init__(self, address: str, service: str, *, backoff: Backoff | None = None) -> None:
        self.address = address
        self.on_change: Callable[[], None] = ignore
        self.num_losses = 0
        self._service = service
        self._backoff = backoff or Backoff()
        self._connected = False
        self._ready = False
        self._keeper: asyncio.Task[None] | None = None

    @property
    def is_ready(self) -> bool:
        """Whether the server serves and is connected now."""
        return self._ready

    @property
    def is_connected(self) -> bool:
        """Whether the server is connected now; one that drains is, and does not serve."""
        return self._connected

    @property
    @abc.abstractmethod
    def is_idle(self) -> bool:
        """Whether nothing is open on the connection."""

    def start(self) -> None:
        """Starts to connect, in a task of its own."""
        self._keeper = asyncio.create_task(self._keep_connected(), name=f"keep {self.address}")

    async def close(self) -> None:
        """Ends the connection; what is open on it is lost."""
        if self._keeper is not None:
            await _end_all([self._keeper])

    @abc.abstractmethod
    async def _describe(self, channel: grpc.aio.Channel) -> None:
        """Asks the server what it is; called each time that it begins to serve."""

    @abc.abstractmethod
    async def _converse(self, channel: grpc.aio.Channel) -> None:
        """Holds the two-way stream; returns or raises where it is lost."""

    @abc.abstractmethod
    def _lose(self, cause: str) -> None:
        """Ends what was open on the lost connection."""

    def _hear_of_drain(self) -> None:
        """Hears that the server takes nothing new; what is open goes on."""
        return

    async def _keep_connected(self) -> None:
        failures = 0
        while True:
            cause = "the client was closed"
            was_ready = False
            try:
                await self._connect_once()
                cause = "the stream ended"
            except (OctavoError, grpc.aio.AioRpcError, TimeoutError) as error:
                cause = _cause(error)
            except Exception as error:  # a fault of ours must not leave the address dead for good
                cause = _cause(error)
                log.exception("connection failed", address=self.address)
            finally:
                was_ready = self._ready
                self.num_losses += 1
                self._connected = False
                self._set_ready(False)
                self._lose(cause)
            failures = 0 if was_ready else failures + 1
            if was_ready:
                log.warning("connection lost", address=self.address, cause=cause)
            elif failures == 1:  # said once, not at each of many tries
                log.warning("cannot connect", address=self.address, cause=cause)
            await asyncio.sleep(self._backoff.delay_s(failures))

    async def _connect_once(self) -> None:
        """One connection, until its health watch or its stream ends."""
        async with open_channel(self.address) as channel:
            serving = asyncio.Event()
            await first_to_end(
                asyncio.create_task(self._watch(channel, serving)),
                asyncio.create_task(self._converse_once_serving(channel, serving)),
            )

    async def _watch(self, channel: grpc.aio.Channel, serving: asyncio.Event) -> None:
        health: Any = health_pb2_grpc.HealthStub(channel)  # its type stubs name no methods
        async for answer in health.Watch(health_pb2.HealthCheckRequest(service=self._service)):
            self._connected = True
            if answer.status == _SERVING:
                await self._describe(channel)
                serving.set()
            elif serving.is_set():
                self._hear_of_drain()
            self._set_ready(answer.status == _SERVING)
        raise UnavailableError("the health watch ended")

    async def _converse_once_serving(
        self, channel: grpc.aio.Channel, serving: asyncio.Event
    ) -> None:
        await serving.wait()
        await self._converse(channel)

    def _set_ready(self, ready: bool) -> None:
        if ready != self._ready:
            self._ready = ready
            log.info("ready" if ready else "not ready", address=self.address)
            self.on_change()


async def first_to_end(*tasks: asyncio.Task[None]) -> None:
    """Waits until one of the tasks ends, ends the others, and raises what the first one raised."""
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        await _end_all(tasks)


async def _end_all(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _cause(error: Exception) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return error_from_rpc(error).message
    return str(error) or type(error).__name__


def ignore() -> None:
    """What hears of changes where nobody does."""
