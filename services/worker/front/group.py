"""The worker group: one generation of ranks at a time, and the open requests that outlive none.

run:  start a generation -> wait until it serves -> wait until a rank is lost
      -> end the open requests -> end the generation -> wait a little -> start the next
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import structlog

from octavo.errors import FailedPreconditionError, OctavoError, UnavailableError
from octavo.v1 import worker_pb2
from services.worker.front.admission import Admission
from services.worker.front.attachment import Attachment
from services.worker.front.generation import Generation, GenerationConfig, Loss
from services.worker.front.open_requests import Items, OpenRequests
from services.worker.front.request_watch import RequestWatch
from services.worker.front.submit_check import check_submit
from services.worker.front.uninterrupted import uninterrupted
from services.worker.link.messages import Ready

log = structlog.get_logger()

STARTING = worker_pb2.WORKER_STATE_STARTING
SERVING = worker_pb2.WORKER_STATE_SERVING
DRAINING = worker_pb2.WORKER_STATE_DRAINING
NOT_SERVING = worker_pb2.WORKER_STATE_NOT_SERVING

RETRY_DELAY_MS = 1_000
FIRST_BACKOFF_S = 0.5  # before the second try; the first restart comes at once
MAX_BACKOFF_S = 30.0
STABLE_S = 60.0  # a generation that served for this long makes up for earlier failures


class GroupFailedError(Exception):
    """The ranks cannot be started; permanent where the checkpoint or the settings are wrong."""

    def __init__(self, loss: Loss) -> None:
        super().__init__(str(loss))
        self.permanent = loss.permanent


class Group:
    """Starts, watches and restarts the ranks, and carries requests between them and gateways.

    `on_serving` hears at once of every change between serving and not, `watch` of every request.
    """

    def __init__(
        self,
        config: GenerationConfig,
        *,
        max_restarts: int,
        on_serving: Callable[[bool], Awaitable[None]],
        watch: RequestWatch,
        admission: Admission,
        max_outputs: int,
    ) -> None:
        self.worker_id = uuid.uuid4().hex
        self.instance_id = ""
        self.state: worker_pb2.WorkerState.ValueType = STARTING
        self.message = "the first generation of ranks starts"
        self.ready: Ready | None = None
        self.load = worker_pb2.Load()
        self.generation: Generation | None = None
        self.num_generations = 0
        self.last_failures: dict[int, str] = {}
        self.num_ranks = config.num_ranks
        self._config = config
        self._max_restarts = max_restarts
        self._on_serving = on_serving
        self._watch = watch
        self._admission = admission
        self.max_outputs = max_outputs
        self._draining = False
        self._attachments: set[Attachment] = set()
        self._emptied = asyncio.Event()
        self._open: OpenRequests[Attachment] = OpenRequests(self._note_open, watch.ended)

    @property
    def num_requests(self) -> int:
        """Counts the requests that are open."""
        return len(self._open)

    @property
    def num_attachments(self) -> int:
        """Counts the gateways that are attached."""
        return len(self._attachments)

    async def run(self) -> None:
        """Keeps a generation alive until cancelled; raises GroupFailedError once it gives up."""
        num_failures = num_failed_starts = 0
        while True:
            served_s, loss = await self._live()
            num_failures = 1 if served_s > STABLE_S else num_failures + 1
            # Ranks that served can serve again, whatever a request may have done to them.
            num_failed_starts = 0 if served_s > 0 else num_failed_starts + 1
            if num_failed_starts > self._max_restarts or self._is_hopeless(loss):
                raise GroupFailedError(loss)
            if num_failures > 1:
                await asyncio.sleep(_backoff_s(num_failures))

    async def _live(self) -> tuple[float, Loss]:
        """One generation: for how long it served, and how it was lost."""
        self.num_generations += 1
        generation = Generation(self.num_generations, self._config, self._on_response)
        self.generation = generation
        if self.num_generations > 1:
            self._enter(STARTING, f"generation {generation.number} starts, after {self.message}")
        served_at: float | None = None
        try:
            await generation.start()
            events: set[asyncio.Future[Any]] = {generation.ready, generation.lost}
            await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)
            if generation.ready.done() and not generation.lost.done():
                served_at = time.monotonic()
                await self._serve(generation.ready.result())
            loss = await generation.lost
            await self._lose(loss)
        finally:
            is_lost = generation.lost.done()
            await uninterrupted(generation.end() if is_lost else generation.stop())
        return (0.0 if served_at is None else time.monotonic() - served_at), loss

    async def _serve(self, ready: Ready) -> None:
        self.ready = ready
        self.instance_id = uuid.uuid4().hex
        self.load = worker_pb2.Load(kv_blocks_total=ready.kv_blocks)
        self._enter(SERVING, "every rank is alive")
        log.info("serving", generation=self.num_generations, instance_id=self.instance_id)
        await self._on_serving(self.state == SERVING)

    async def _lose(self, loss: Loss) -> None:
        """Says so everywhere: to health, to every gateway with an open request, and to the log,
        unless the process ends with that very line.
        """
        if not self._is_hopeless(loss):
            number = self.num_generations
            log.error("rank lost", generation=number, rank=loss.rank, cause=loss.cause)
        if loss.rank is not None:
            self.last_failures[loss.rank] = loss.cause
        self._enter(NOT_SERVING, f"the loss of {loss}")
        self.load = worker_pb2.Load()
        self._admission.forecast.clear()
        self._deliver(self._open.end_all(_worker_lost(loss)))
        await self._on_serving(False)

    def _is_hopeless(self, loss: Loss) -> bool:
        """Whether the next generation would end as this one did: none has served yet."""
        return loss.permanent and self.ready is None

    def _enter(self, state: worker_pb2.WorkerState.ValueType, message: str) -> None:
        self.state = DRAINING if self._draining else state
        self.message = message

    def attach(self, attach: worker_pb2.Attach) -> Attachment:
        """Takes a gateway in. Attaching again to a broken stream is not built yet."""
        if attach.HasField("instance_id") or attach.HasField("last_sequence"):
            raise FailedPreconditionError(
                "This worker keeps nothing of a broken Run stream; attach without instance_id and "
                "last_sequence.",
                reason="REATTACH_UNSUPPORTED",
            )
        if self._draining:
            raise _draining()
        attachment = Attachment(attach.gateway_id, lambda: self.instance_id)
        self._attachments.add(attachment)
        return attachment

    def detach(self, attachment: Attachment) -> None:
        """Forgets a gateway whose stream ended, and cancels what it left open."""
        self._attachments.discard(attachment)
        dropped = self._open.drop(attachment)
        self._admission.forecast.forget(dropped)
        self._cancel_in_engine(dropped)

    def num_open(self, attachment: Attachment) -> int:
        """How many requests the gateway has open."""
        return self._open.count(attachment)

    def submit(self, attachment: Attachment, submit: worker_pb2.Submit) -> None:
        """Hands a request to the engine; one that is refused ends with its own error."""
        key = submit.key
        try:
            vocabulary_size = self._check_serving()
            check_submit(submit, vocabulary_size=vocabulary_size, max_outputs=self.max_outputs)
            self._admission.check(submit)
            submit.key = self._open.open(attachment, key, submit.request_id)
        except OctavoError as error:
            self._watch.refused(submit.request_id, error)
            attachment.refuse(key, error, self.load)
            return
        self._watch.submitted(submit)
        self._admission.forecast.note_submitted(submit.key, submit)
        assert self.generation is not None
        self.generation.send(worker_pb2.RunRequest(submit=submit))

    def cancel(
        self, attachment: Attachment, keys: list[int], outputs: Sequence[tuple[int, int]] = ()
    ) -> None:
        """Ends requests early, and single outputs (key and index); unknown keys are ignored: their
        end is on the way.
        """
        self._cancel_in_engine(
            self._open.engine_keys(attachment, keys),
            [
                worker_pb2.OutputKey(key=engine_key, output_index=index)
                for key, index in outputs
                for engine_key in self._open.engine_keys(attachment, [key])
            ],
        )

    def open_requests(self) -> list[tuple[str, float]]:
        """Ids and beginnings (time.monotonic()) of what is open, oldest first."""
        return self._open.requests()

    def abort(self, request_id: str, error: OctavoError) -> int:
        """Ends with `error` the requests that have exactly this id; how many they were."""
        engine_keys = self._open.keys_of(request_id)
        self._cancel_in_engine(engine_keys)
        self._deliver(self._open.end(engine_keys, error))
        return len(engine_keys)

    async def drain(self, limit_s: float) -> None:
        """Refuses new requests, lets open ones finish within the limit, ends the rest."""
        self._draining = True
        self._enter(DRAINING, "open requests finish, new ones are refused")
        await self._on_serving(False)
        self._note_open()
        try:
            await asyncio.wait_for(self._emptied.wait(), limit_s)
        except TimeoutError:
            log.warning("drain limit reached", open_requests=len(self._open), limit_s=limit_s)
        self._deliver(self._open.end_all(_draining()))
        for attachment in self._attachments:
            attachment.close(_draining())

    def _check_serving(self) -> int:
        """The vocabulary's size. Raises UnavailableError where requests are refused."""
        if self._draining:
            raise _draining()
        if self.state != SERVING or self.ready is None:
            state = worker_pb2.WorkerState.Name(self.state).removeprefix("WORKER_STATE_")
            raise UnavailableError(
                f"The worker group is {state}: {self.message}.",
                reason="WORKER_NOT_SERVING",
                metadata={"state": state},
                retry_delay_ms=RETRY_DELAY_MS,
            )
        return self.ready.vocabulary_size

    def _cancel_in_engine(
        self, engine_keys: list[int], outputs: Sequence[worker_pb2.OutputKey] = ()
    ) -> None:
        if not engine_keys and not outputs:
            return
        if self.generation is not None and self.state in (SERVING, DRAINING):
            cancel = worker_pb2.Cancel(keys=engine_keys, outputs=outputs)
            self.generation.send(worker_pb2.RunRequest(cancel=cancel))

    def _on_response(self, response: worker_pb2.RunResponse) -> None:
        self.load = response.load
        self._admission.forecast.note_response(response, time.monotonic())
        self._watch.generated(response.items)
        self._deliver(self._open.route(list(response.items)))

    def _deliver(self, routed: Mapping[Attachment, Items]) -> None:
        for attachment, items in routed.items():
            attachment.deliver(items, self.load)

    def _note_open(self) -> None:
        if len(self._open) == 0:
            self._emptied.set()
        else:
            self._emptied.clear()


def _backoff_s(num_failures: int) -> float:
    """Seconds to wait after this many failures in a row."""
    return min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** (num_failures - 2))


def _worker_lost(loss: Loss) -> UnavailableError:
    return UnavailableError(
        f"The worker group lost {loss}.",
        reason="WORKER_LOST",
        metadata={"rank": "" if loss.rank is None else str(loss.rank), "cause": loss.cause},
        retry_delay_ms=RETRY_DELAY_MS,
    )


def _draining() -> UnavailableError:
    return UnavailableError(
        "The worker group drains.", reason="DRAINING", retry_delay_ms=RETRY_DELAY_MS
    )
