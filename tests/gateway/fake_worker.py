"""A worker group without a model: it says what `reply` makes of a prompt, one id a step."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from typing import Any

from octavo.rpc.server import RpcServer
from octavo.v1 import worker_pb2 as pb
from octavo.v1 import worker_pb2_grpc
from tests.gateway.fake_tokenizer import EOS_ID, VOCABULARY_SIZE

MAX_CONTEXT = 4_096
STEP_S = 0.001

Reply = Callable[[pb.Submit], Iterable[int]]


def say(text: str) -> Reply:
    """A reply of these bytes and the end of the sequence."""
    return lambda submit: [*text.encode(), EOS_ID]


def chatter(submit: pb.Submit) -> Iterable[int]:
    """A reply that only a limit or a cancel ends."""
    return itertools.cycle(b"ab")


class _Running:
    """One request in the batch."""

    def __init__(self, submit: pb.Submit, ids: Iterator[int], answers: _Answers) -> None:
        self.submit = submit
        self.ids = ids
        self.answers = answers
        self.began_at = time.monotonic()
        self.num_tokens = 0
        self.is_cancelled = False

    def step(self) -> pb.RunItem:
        item = pb.RunItem(key=self.submit.key)
        if self.num_tokens == 0:
            item.start.cached_prompt_token_count = 3
        reason = self._forced_end()
        if reason is None:
            id_ = next(self.ids)
            self.num_tokens += 1
            item.token_ids.append(id_)
            reason = self._end_after(id_)
            if reason == pb.RUN_FINISH_REASON_STOP:
                item.finish.stop_token_id = id_
        if reason is not None:
            item.finish.reason = reason
            item.timings.queue_ms, item.timings.prefill_ms, item.timings.decode_ms = 1, 2, 3
        return item

    def _forced_end(self) -> pb.RunFinishReason.ValueType | None:
        limit_ms = self.submit.time_limit_ms
        if self.is_cancelled:
            return pb.RUN_FINISH_REASON_CANCELLED
        if limit_ms and time.monotonic() - self.began_at > limit_ms / 1_000:
            return pb.RUN_FINISH_REASON_TIME_LIMIT
        return None

    def _end_after(self, id_: int) -> pb.RunFinishReason.ValueType | None:
        if id_ in self.submit.stop_token_ids:
            return pb.RUN_FINISH_REASON_STOP
        if self.submit.HasField("max_tokens") and self.num_tokens >= self.submit.max_tokens:
            return pb.RUN_FINISH_REASON_LENGTH
        if len(self.submit.prompt_token_ids) + self.num_tokens >= MAX_CONTEXT:
            return pb.RUN_FINISH_REASON_CONTEXT_LENGTH
        return None


_Answers = asyncio.Queue[pb.RunResponse]


class FakeWorker(worker_pb2_grpc.WorkerServiceServicer):
    """`submits` and `cancelled_keys` record what came. Clear `stepping` to hold the steps back.
    An `error` refuses every request with it.
    """

    def __init__(
        self, *, reply: Reply = chatter, model: str = "tiny", fingerprint: str = "bytes"
    ) -> None:
        self.reply = reply
        self.model = model
        self.fingerprint = fingerprint
        self.defaults = pb.WorkerDefaults()
        self.error: pb.RunError | None = None
        self.submits: list[pb.Submit] = []
        self.cancelled_keys: list[int] = []
        self.stepping = asyncio.Event()
        self.stepping.set()
        self.port = 0
        self._running: dict[int, _Running] = {}
        self._server: RpcServer | None = None
        self._steps: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def kv_blocks_used(self) -> int:
        """One block for each request that runs."""
        return len(self._running)

    async def start(self, *, serving: bool = True) -> None:
        """Listens; again on the same port after `kill`."""
        self._server = RpcServer(
            address=self.address, services={"octavo.v1.WorkerService": self._register}
        )
        self.port = await self._server.start()
        await self._server.set_serving(serving)
        self._steps = asyncio.create_task(self._step_for_ever())

    async def kill(self) -> None:
        """Drops every connection and request at once."""
        server, self._server = self._server, None
        if server is not None and self._steps is not None:
            self._steps.cancel()
            await server.stop(0)
            self._running.clear()

    async def set_serving(self, serving: bool) -> None:
        assert self._server is not None
        await self._server.set_serving(serving)

    def _register(self, server: Any) -> None:
        worker_pb2_grpc.add_WorkerServiceServicer_to_server(self, server)

    async def GetWorker(self, request: pb.GetWorkerRequest, context: Any) -> pb.GetWorkerResponse:
        return pb.GetWorkerResponse(
            worker_id="fake",
            instance_id="1",
            ranks=1,
            model=self.model,
            max_context_tokens=MAX_CONTEXT,
            vocabulary_size=VOCABULARY_SIZE,
            eos_token_ids=[EOS_ID],
            defaults=self.defaults,
            checkpoint_fingerprint="checkpoint",
            tokenizer_fingerprint=self.fingerprint,
        )

    async def GetHealth(self, request: pb.GetHealthRequest, context: Any) -> pb.GetHealthResponse:
        return pb.GetHealthResponse(state=pb.WORKER_STATE_SERVING)

    async def Run(
        self, request_iterator: AsyncIterator[pb.RunRequest], context: Any
    ) -> AsyncGenerator[pb.RunResponse, None]:
        answers: _Answers = asyncio.Queue()
        reader = asyncio.create_task(self._read(request_iterator, answers))
        try:
            while True:
                yield await answers.get()
        finally:
            reader.cancel()
            lost = [key for key, running in self._running.items() if running.answers is answers]
            for key in lost:
                del self._running[key]

    async def _read(self, requests: AsyncIterator[pb.RunRequest], answers: _Answers) -> None:
        async for request in requests:
            action = request.WhichOneof("action")
            if action == "submit":
                self._submit(request.submit, answers)
            elif action == "cancel":
                self._cancel(request.cancel.keys)

    def _submit(self, submit: pb.Submit, answers: _Answers) -> None:
        self.submits.append(submit)
        if self.error is not None:
            item = pb.RunItem(key=submit.key, error=self.error)
            answers.put_nowait(pb.RunResponse(items=[item], load=self._load()))
            return
        self._running[submit.key] = _Running(
            submit, itertools.chain(self.reply(submit), chatter(submit)), answers
        )

    def _cancel(self, keys: Iterable[int]) -> None:
        for key in keys:
            self.cancelled_keys.append(key)
            if key in self._running:
                self._running[key].is_cancelled = True

    async def _step_for_ever(self) -> None:
        while True:
            await asyncio.sleep(STEP_S)
            await self.stepping.wait()
            self._step()

    def _step(self) -> None:
        """One response for each attachment, with all its items."""
        responses: dict[int, tuple[_Answers, pb.RunResponse]] = {}
        for running in list(self._running.values()):
            _, response = responses.setdefault(
                id(running.answers), (running.answers, pb.RunResponse())
            )
            item = running.step()
            response.items.append(item)
            if item.HasField("finish"):
                del self._running[running.submit.key]
        for answers, response in responses.values():
            response.load.CopyFrom(self._load())
            answers.put_nowait(response)

    def _load(self) -> pb.Load:
        return pb.Load(
            running=len(self._running), kv_blocks_used=len(self._running), kv_blocks_total=64
        )
