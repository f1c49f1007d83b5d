"""The events of one generation, for asyncio: iterate, or take the text alone, or the whole."""

from __future__ import annotations

import abc
import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

import grpc.aio

from octavo.client.failure import failure_from_rpc, stream_closed
from octavo.client.gathering import Gathering, ended_early
from octavo.client.generation_types import Delta, Event, Generation
from octavo.client.generation_wire import event_from_pb
from octavo.client.retries import Attempts
from octavo.errors import OctavoError
from octavo.v1 import generation_pb2 as pb

if TYPE_CHECKING:  # subscripts that exist in the stubs only
    StreamCall = grpc.aio.UnaryStreamCall[pb.GenerateRequest, pb.StreamGenerateResponse]


class AsyncEventStream(abc.ABC, AsyncIterator[Event]):
    """One generation. An iterator of events that is closed by `aclose`, by leaving its `async with`
    block, or by dropping it: what is not finished is then cancelled on the server.
    """

    def __init__(self, cancel: Callable[[], object]) -> None:
        self._gathering = Gathering()
        self._cancel = cancel
        self._loop = asyncio.get_running_loop()

    async def __anext__(self) -> Event:
        if self._gathering.has_ended:
            raise StopAsyncIteration
        try:
            event = await self._receive()
        except OctavoError as error:
            self._gathering.fail(error)
            raise
        self._gathering.add(event)
        return event

    async def text(self, output_index: int = 0) -> AsyncGenerator[str, None]:
        """The text of one output, as it comes. Leaving the loop early closes the stream."""
        try:
            async for event in self:
                if isinstance(event, Delta) and event.output_index == output_index and event.text:
                    yield event.text
        finally:
            await self.aclose()

    async def result(self) -> Generation:
        """Waits for the end; the whole generation, what was iterated before included."""
        async for _ in self:
            pass
        return self._gathering.result()

    async def aclose(self) -> None:
        """Cancels what is not finished; nothing more comes."""
        if not self._gathering.has_ended:
            self._gathering.fail(stream_closed())
            self._cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if not self._gathering.has_ended:
            # Memory may be freed in any thread. A loop that is closed has ended its calls.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._cancel)

    @abc.abstractmethod
    async def _receive(self) -> Event:
        """Waits for the next event; raises OctavoError in its place. Never called after the end."""


class AsyncGenerationStream(AsyncEventStream):
    """A generation on a call of its own, which is made again while nothing has come of it."""

    def __init__(
        self,
        call: StreamCall,
        attempts: Attempts,
        *,
        start_again: Callable[[float | None], StreamCall],
        address: str,
    ) -> None:
        super().__init__(call.cancel)
        self._call = call
        self._attempts = attempts
        self._start = start_again
        self._address = address

    async def _receive(self) -> Event:
        while True:
            try:
                return await self._read()
            except grpc.aio.AioRpcError as error:
                await self._start_again(error)
            except asyncio.CancelledError:
                self._gathering.fail(stream_closed())  # gRPC ends a call whose reader is cancelled
                if task_is_cancelled():
                    raise
                raise stream_closed() from None  # by another task, which closed stream or client

    async def _read(self) -> Event:
        while (message := await self._call.read()) is not grpc.aio.EOF:
            assert isinstance(message, pb.StreamGenerateResponse)
            if (event := event_from_pb(message)) is not None:
                return event
        raise ended_early()

    async def _start_again(self, error: grpc.aio.AioRpcError) -> None:
        timeout_s = self._attempts.timeout_s
        failure = failure_from_rpc(error, address=self._address, timeout_s=timeout_s)
        delay_s = None if self._gathering.has_begun else self._attempts.delay_after(failure)
        if delay_s is None:
            raise failure from error
        await asyncio.sleep(delay_s)
        if self._gathering.has_ended:  # closed by another task
            raise failure from error
        self._call = self._start(self._attempts.remaining_s)
        self._cancel = self._call.cancel


def task_is_cancelled() -> bool:
    """Whether the running task itself was cancelled, rather than the call that it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
