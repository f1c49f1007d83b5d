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

from octavo.client.services.connection import Backoff, Connection, first_to_end
from octavo.client.services.run_outbox import RunOutbox
from octavo.client.services.worker_types import Load, OutputItem, Submission, WorkerDescription
from octavo.client.services.worker_wire import (
    description_from_pb,
    item_from_pb,
    load_from_pb,
    submit_to_pb,
)
from octavo.errors import OctavoError, UnavailableError
from octavo.v1 import worker_pb2 as pb
from octavo.v1 import worker_pb2_grpc

log = structlog.get_logger()

if TYPE_CHECKING:  # subscripts that exist in the stubs only
    RunCall = grpc.aio.StreamStreamCall[pb.RunRequest, pb.RunResponse]

WORKER_SERVICE = "octavo.v1.WorkerService"
DESCRIBE_TIMEOUT_S = 5.0
RETRY_DELAY_MS = 500


class ItemSink(Protocol):
    """Who hears about a request. Called by the reader: must return at once."""

    def receive(self, item: OutputItem) -> None:
        """Takes the next item; all items of a step come without a pause between them."""

    def fail(self, error: OctavoError) -> None:
        """Takes the failure of the whole request, after which nothing comes."""


class Run:
    """A request that was handed over."""

    def __init__(
        self,
        *,
        cancel: Callable[[], None],
        cancel_output: Callable[[int], None],
        forget: Callable[[], None],
    ) -> None:
        self._cancel = cancel
        self._cancel_output = cancel_output
        self._forget = forget
        self._cancel_asked = False

    def cancel(self) -> None:
        """Asks the worker to end the request; its last items still come."""
        if not self._cancel_asked:
            self._cancel_asked = True
            self._cancel()

    def cancel_output(self, index: int) -> None:
        """Asks the worker to end one output; the others go on."""
        if not self._cancel_asked:
            self._cancel_output(index)

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
        self._outbox = RunOutbox()

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
        return Run(
            cancel=partial(self._cancel, key),
            cancel_output=partial(self._cancel_output, key),
            forget=partial(self._forget, key),
        )

    def _cancel(self, key: int) -> None:
        """A worker that never heard of the key, or has ended it, need not hear of its end."""
        if key in self._sinks and not self._outbox.withdraw(key):
            self._outbox.cancel(key)

    def _cancel_output(self, key: int, index: int) -> None:
        if key in self._sinks:
            self._outbox.cancel_output(key, index)

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


def _worker_lost() -> UnavailableError:
    """What clients hear; where the worker is and what the network said is in our log."""
    return UnavailableError(
        "The worker was lost.", reason="WORKER_LOST", retry_delay_ms=RETRY_DELAY_MS
    )
