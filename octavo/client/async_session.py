"""Many generations on one stream, for asyncio."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self, Unpack

import grpc.aio

from octavo.client.async_stream import AsyncEventStream
from octavo.client.failure import failure_from_rpc, timed_out
from octavo.client.generation_parameters import GenerationParameters, Message
from octavo.client.generation_request import generate_request
from octavo.client.generation_types import Event
from octavo.client.retries import Attempts
from octavo.client.session_requests import SessionRequests, cancel_message, open_message
from octavo.client.timeouts import chosen_timeout_s
from octavo.errors import CancelledError, OctavoError
from octavo.v1 import generation_pb2 as pb

if TYPE_CHECKING:  # subscripts that exist in the stubs only
    Inbox = asyncio.Queue[Event | OctavoError]
    SessionCall = grpc.aio.StreamStreamCall[pb.OpenSessionRequest, pb.OpenSessionResponse]


class AsyncSessionStream(AsyncEventStream):
    """One generation of a session."""

    def __init__(self, inbox: Inbox, attempts: Attempts, *, cancel: Callable[[], None]) -> None:
        super().__init__(cancel)
        self._inbox = inbox
        self._attempts = attempts

    def cancel(self) -> None:
        """Asks the server to end the generation: what it has so far, Finished with CANCELLED for
        each open output, and Usage still come.
        """
        self._cancel()

    async def _receive(self) -> Event:
        try:
            item = await self._next_item()
        except TimeoutError:
            self._cancel()
            assert self._attempts.timeout_s is not None
            raise timed_out(self._attempts.timeout_s) from None
        if isinstance(item, OctavoError):
            raise item
        return item

    async def _next_item(self) -> Event | OctavoError:
        """What has come is read whatever the time."""
        if not self._inbox.empty():
            return self._inbox.get_nowait()
        async with asyncio.timeout(self._attempts.remaining_s):
            return await self._inbox.get()


class AsyncSession:
    """An async context manager. Leaving it lets what is open finish; leaving it with an exception,
    or `aclose`, cancels everything.
    """

    def __init__(
        self,
        start: Callable[[AsyncIterator[pb.OpenSessionRequest]], SessionCall],
        *,
        address: str,
        timeout_s: float | None,
        default_timeout_s: float | None,
    ) -> None:
        self._outbox = _Outbox()
        self._requests: SessionRequests[Inbox] = SessionRequests(asyncio.Queue)
        self._default_timeout_s = default_timeout_s
        self._loop = asyncio.get_running_loop()
        self._call = start(self._outbox.messages())
        # It holds no reference to the session, so that a session nobody holds is cancelled.
        self._reader = asyncio.create_task(
            _read(self._call, self._requests, self._outbox, address, timeout_s),
            name="octavo session",
        )

    def open(
        self,
        prompt: str | None = None,
        *,
        messages: Sequence[Message] | None = None,
        token_ids: Sequence[int] | None = None,
        timeout: float | None = None,
        **parameters: Unpack[GenerationParameters],
    ) -> AsyncSessionStream:
        """Starts a generation; what it fails with is raised where its events are read.

        Takes what `AsyncClient.generate` takes. A `timeout` counts from here and is noticed where
        events are read.
        """
        request = generate_request(prompt, messages, token_ids, parameters)
        timeout_s = chosen_timeout_s(timeout, self._default_timeout_s)
        key, inbox = self._requests.add()
        self._outbox.put(open_message(key, request))
        outbox = self._outbox
        return AsyncSessionStream(
            inbox,
            Attempts(retries=0, timeout_s=timeout_s),
            cancel=lambda: outbox.put(cancel_message(key)),
        )

    async def finish(self) -> None:
        """Opens no more, and waits until everything open has ended."""
        self._requests.finish()
        self._outbox.put(None)
        await asyncio.wait([self._reader])

    async def aclose(self) -> None:
        """Cancels everything that is open."""
        self._requests.end(CancelledError("The session was closed.", reason="SESSION_CLOSED"))
        self._call.cancel()
        await asyncio.wait([self._reader])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error_type is not None:
            await self.aclose()
            return
        try:
            await self.finish()
        except BaseException:  # this task is cancelled while it waits
            await self.aclose()
            raise

    def __del__(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, and the call with it
            self._loop.call_soon_threadsafe(self._call.cancel)


class _Outbox:
    """What waits to be written; None ends the writing."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[pb.OpenSessionRequest | None] = asyncio.Queue()

    def put(self, message: pb.OpenSessionRequest | None) -> None:
        self._waiting.put_nowait(message)

    async def messages(self) -> AsyncIterator[pb.OpenSessionRequest]:
        while (message := await self._waiting.get()) is not None:
            yield message


async def _read(
    call: SessionCall,
    requests: SessionRequests[Inbox],
    outbox: _Outbox,
    address: str,
    timeout_s: float | None,
) -> None:
    """Hands what comes to the generations, until the stream ends."""
    failure: OctavoError | None = None
    try:
        async for response in call:
            requests.deliver(response)
    except grpc.aio.AioRpcError as error:
        failure = failure_from_rpc(error, address=address, timeout_s=timeout_s)
    except asyncio.CancelledError:  # the call was cancelled, by `aclose` or by closing the client
        failure = CancelledError("The session was closed.", reason="SESSION_CLOSED")
    finally:
        requests.end(failure)
        outbox.put(None)  # ends the task in which gRPC reads what is to be written
