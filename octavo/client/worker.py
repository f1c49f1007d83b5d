"""A typed client of one worker group: many requests on one Run stream.

The reader hands every item to its request's sink and never waits for anything else; what is to be
written lies in an outbox that the writer empties, so that neither holds up the other.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol

import grpc.aio
import structlog

from octavo.client.connection import Backoff, Connection, first_to_end
from octavo.client.worker_types import Load, OutputItem, Submission, WorkerDescription
from octavo.client.worker_wire import description_from_pb, item_from_pb, load_from_pb, submit_to_pb
from octavo.errors import OctavoError, UnavailableError
from octavo.v1 import worker_pb2 as pb
from octavo.v1 import worker_pb2_grpc

log = structlog.get_logger()

if TYPE_CHECKING:  # subscripts that exist in the stubs only
    RunCall = grpc.aio.StreamStreamCall[pb.RunRequest, pb.RunResponse]

WORKER_SERVICE = "octavo.v1.WorkerService"
DESCRIBE_TIMEOUT_S = 5.0
WRITE_STALL_S = 30.0
RETRY_DELAY_MS = 500


class ItemSink(Protocol):
    """Who hears about a request. Called by the reader: must return at once."""

    def receive(self, item: OutputItem) -> None:
        """Takes the next item; all items of a step come without a pause between them."""

    def fail(self, error: OctavoError) -> None:
        """Takes the failure of the whole request, after which nothing comes."""


class Run:
    """A request that was handed over."""

    def __init__(self, *, cancel: Callable[[], None], forget: Callable[[], None]) -> None:
        self._cancel = cancel
        self._forget = forget
        self._cancel_asked = False

    def cancel(self) -> None:
        """Asks the worker to end the request; its last items still come."""
        if not self._cancel_asked:
            self._cancel_asked = True
            self._cancel()

    def close(self) -> None:
        """Ends the request if it is open, and hears no more of it."""
        self.cancel()
        self._forget()


class WorkerClient(Connection):
    """One worker group at one address."""

    def __init__(self, address: str, *, gateway_id: str, backoff: Backoff | None = None) -> None:
        super().__init__(address, WORKER_SERVICE, backoff=backoff)
        self.description: WorkerDescription | None = None
        self.load = Load()
        self.num_generated_tokens = 0
        self._gateway_id = gateway_id
        self._keys = itertools.count(1)
        self._sinks: dict[int, ItemSink] = {}
        self._outbox = _Outbox()

    @property
    def num_open(self) -> int:
        """Counts the requests that this client has open."""
        return len(self._sinks)

    @property
    def is_idle(self) -> bool:
        """Whether no request is open."""
        return not self._sinks

    def submit(self, submission: Submission, sink: ItemSink) -> Run:
        """Hands a request over; raises UnavailableError where the worker does not serve."""
        if not self.is_ready:
            raise _worker_lost()
        key = next(self._keys)
        self._sinks[key] = sink
        self._outbox.submit(key, submit_to_pb(key, submission))
        return Run(cancel=partial(self._cancel, key), forget=partial(self._forget, key))

    def _cancel(self, key: int) -> None:
        """A worker that never heard of the key, or has ended it, need not hear of its end."""
        if key in self._sinks and not self._outbox.withdraw(key):
            self._outbox.cancel(key)

    def _forget(self, key: int) -> None:
        self._sinks.pop(key, None)

    async def _describe(self, channel: grpc.aio.Channel) -> None:
        stub = worker_pb2_grpc.WorkerServiceStub(channel)
        answer = await stub.GetWorker(pb.GetWorkerRequest(), timeout=DESCRIBE_TIMEOUT_S)
        self.description = description_from_pb(answer)

    async def _converse(self, channel: grpc.aio.Channel) -> None:
        call = worker_pb2_grpc.WorkerServiceStub(channel).Run()
        await call.write(pb.RunRequest(attach=pb.Attach(gateway_id=self._gateway_id)))
        await first_to_end(
            asyncio.create_task(self._read(call)), asyncio.create_task(self._outbox.write_to(call))
        )

    async def _read(self, call: RunCall) -> None:
        async for response in call:
            if response.HasField("load"):
                self.load = load_from_pb(response.load)
            for item in response.items:
                self._deliver(item)
        raise UnavailableError("the worker ended its stream")

    def _deliver(self, message: pb.RunItem) -> None:
        self.num_generated_tokens += len(message.token_ids)
        sink = self._sinks.get(message.key)
        if sink is None:  # closed here; the cancel is on its way
            return
        item = item_from_pb(message)
        if item.timings is not None or item.error is not None:
            del self._sinks[message.key]
        sink.receive(item)

    def _lose(self, cause: str) -> None:
        sinks, self._sinks = self._sinks, {}
        self._outbox.clear()
        self.load = Load()
        if sinks:
            log.warning("requests lost", address=self.address, cause=cause, count=len(sinks))
        for sink in sinks.values():
            sink.fail(_worker_lost())


class _Outbox:
    """What waits to be written: submits in order, and cancels merged into one message."""

    def __init__(self) -> None:
        self._submits: dict[int, pb.RunRequest] = {}
        self._cancels: set[int] = set()
        self._filled = asyncio.Event()

    def submit(self, key: int, message: pb.RunRequest) -> None:
        self._submits[key] = message
        self._filled.set()

    def cancel(self, key: int) -> None:
        self._cancels.add(key)
        self._filled.set()

    def withdraw(self, key: int) -> bool:
        """Takes back a submit that was not written yet; False where it was."""
        return self._submits.pop(key, None) is not None

    def clear(self) -> None:
        self._submits.clear()
        self._cancels.clear()

    async def write_to(self, call: RunCall) -> None:
        """Writes what comes, until the call ends or a write stalls."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            while (message := self._take()) is not None:
                # Not wait_for: before Python 3.12 it can swallow a cancel.
                async with asyncio.timeout(WRITE_STALL_S):
                    await call.write(message)

    def _take(self) -> pb.RunRequest | None:
        """The next message: a cancel comes after the submit of its key and before other submits."""
        written = self._cancels - self._submits.keys()
        if written:
            self._cancels -= written
            return pb.RunRequest(cancel=pb.Cancel(keys=sorted(written)))
        for key in self._submits:
            return self._submits.pop(key)
        return None


def _worker_lost() -> UnavailableError:
    """What clients hear; where the worker is and what the network said is in our log."""
    return UnavailableError(
        "The worker was lost.", reason="WORKER_LOST", retry_delay_ms=RETRY_DELAY_MS
    )
