"""Many generations on one two-way stream, each with its own key and its own end.

Each generation has a task that puts its events, one after the other, into a short queue that the
stream is written from; while that queue is full, deltas merge in the generation's own buffer. The
reader only starts and cancels: it never waits for a write.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing

import structlog

from gateway.cancellation import Cancellation
from gateway.events import Event, Usage
from gateway.generation import Generation
from gateway.grpc_api.call import Call
from gateway.grpc_api.convert_event import session_response_to_pb
from gateway.grpc_api.convert_request import generation_request_from_pb
from gateway.grpc_api.writer import Writer
from gateway.request import GenerationRequest
from gateway.request_log import RequestLog
from octavo.errors import (
    AlreadyExistsError,
    InternalError,
    OctavoError,
    ResourceExhaustedError,
    invalid_field,
)
from octavo.rpc.request_id import bind_request_id, new_request_id
from octavo.v1 import generation_pb2 as pb

log = structlog.get_logger()

QUEUE_EVENTS = 64
RETRY_DELAY_MS = 500
_METHOD = "OpenSession"  # as logs and metrics call its requests


class Session:
    """One OpenSession call."""

    def __init__(
        self, generation: Generation, request_log: RequestLog, call: Call, *, max_requests: int
    ) -> None:
        self._generation = generation
        self._request_log = request_log
        self._call = call
        self._max_requests = max_requests
        self._open: dict[int, Cancellation] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: OctavoError | None = None
        self._written: asyncio.Queue[_Written | None] = asyncio.Queue(QUEUE_EVENTS)

    async def carry(
        self,
        requests: AsyncIterator[pb.OpenSessionRequest],
        writer: Writer[pb.OpenSessionResponse],
    ) -> None:
        """Answers `requests`. Ends once they have ended and every generation has; however it ends
        before, every generation is cancelled.
        """
        reader = asyncio.create_task(self._read(requests))
        ender = asyncio.create_task(self._end_with_server())
        try:
            while (written := await self._written.get()) is not None:
                if written.ends_generation:
                    self._open.pop(written.key, None)
                await writer.write(session_response_to_pb(written.key, written.event))
            if self._failure is not None:
                raise self._failure
        finally:
            await _end_all({reader, ender, *self._tasks})

    async def _read(self, requests: AsyncIterator[pb.OpenSessionRequest]) -> None:
        """Starts and cancels until the client half-closes, then waits for the generations."""
        try:
            async for request in requests:
                self._act(request)
            await self._generations()
        except OctavoError as error:
            self._failure = error
        except Exception:
            log.exception("session failed")
            self._failure = _internal()
        await self._written.put(None)

    async def _end_with_server(self) -> None:
        """A session that is idle when the server ends is told so."""
        self._failure = await self._generation.open.until_ended()
        await self._generations()
        await self._written.put(None)

    async def _generations(self) -> None:
        """Waits until none is open."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _act(self, request: pb.OpenSessionRequest) -> None:
        if not request.HasField("key"):
            raise invalid_field("key", None, "a number that identifies the generation")
        action = request.WhichOneof("action")
        if action == "open":
            self._start(request.key, request.open)
        elif action == "cancel":
            if (cancellation := self._open.get(request.key)) is not None:
                cancellation.ask()
        else:
            raise invalid_field("action", None, "one of open and cancel")

    def _start(self, key: int, message: pb.GenerateRequest) -> None:
        refusal = self._refusal(key)
        if refusal is None:
            cancellation = self._open[key] = Cancellation()
            work = self._generate(key, message, cancellation)
        else:
            work = self._refuse(key, message, refusal)
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _refusal(self, key: int) -> OctavoError | None:
        """Why this open alone cannot start. A client that reads no refusals loses its session."""
        if len(self._tasks) >= 2 * self._max_requests:
            raise _full(self._max_requests, "open requests and unread refusals")
        if key in self._open:
            return AlreadyExistsError(
                f"The key {key} is still open in this session.",
                reason="KEY_IN_USE",
                metadata={"field": "key", "value": str(key)},
            )
        if len(self._open) >= self._max_requests:
            return _full(self._max_requests, "open requests")
        return None

    def _request_id(self, key: int, message: pb.GenerateRequest) -> str:
        """An id that came with the session's metadata serves all its requests, by key."""
        if message.HasField("request_id"):
            return message.request_id
        if self._call.request_id is not None:
            return f"{self._call.request_id}:{key}"
        return new_request_id()

    def _request(self, key: int, message: pb.GenerateRequest) -> GenerationRequest:
        return generation_request_from_pb(
            message,
            request_id=self._request_id(key, message),
            arrived_at=time.monotonic(),
            deadline_at=self._call.deadline_at,
        )

    async def _generate(
        self, key: int, message: pb.GenerateRequest, cancellation: Cancellation
    ) -> None:
        try:
            with self._request_log.request(_METHOD):
                request = self._request(key, message)
                async with aclosing(self._generation.generate(request, cancellation)) as events:
                    async for event in events:
                        await self._put(key, event, ends_generation=isinstance(event, Usage))
        except OctavoError as error:
            await self._put(key, error, ends_generation=True)
        except Exception:
            log.exception("generation failed", key=key)
            await self._put(key, _internal(), ends_generation=True)

    async def _refuse(self, key: int, message: pb.GenerateRequest, refusal: OctavoError) -> None:
        bind_request_id(self._request_id(key, message))
        with self._request_log.request(_METHOD) as record:
            record.fail_with(refusal)
            await self._put(key, refusal, ends_generation=False)

    async def _put(self, key: int, event: Event | OctavoError, *, ends_generation: bool) -> None:
        await self._written.put(_Written(key, event, ends_generation))


class _Written:
    """What is about to be written: an event, and whether its key is free after it."""

    __slots__ = ("ends_generation", "event", "key")

    def __init__(self, key: int, event: Event | OctavoError, ends_generation: bool) -> None:
        self.key = key
        self.event = event
        self.ends_generation = ends_generation


def _full(limit: int, what: str) -> ResourceExhaustedError:
    return ResourceExhaustedError(
        f"The session has too many {what}; a session may have {limit} open requests.",
        reason="SESSION_FULL",
        metadata={"limit": str(limit)},
        retry_delay_ms=RETRY_DELAY_MS,
    )


def _internal() -> InternalError:
    return InternalError("The server failed; its log holds the cause.")


async def _end_all(tasks: set[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
