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


def logprob_of(token_id: int) -> float:
    """The log probability that this worker gives a token, wherever it stands."""
    return -(token_id % 8) / 4


def scored(token_id: int, num_top: int) -> pb.TokenLogprob:
    """A token's log probability; the likeliest are always 97, 98, and so on."""
    top = range(97, 97 + num_top)
    return pb.TokenLogprob(
        logprob=logprob_of(token_id),
        top_token_ids=top,
        top_logprobs=[-(id_ - 97) / 2 for id_ in top],
    )


class _Output:
    """One output of a request in the batch."""

    def __init__(
        self, submit: pb.Submit, index: int, ids: Iterator[int], longest_output: int
    ) -> None:
        self.submit = submit
        self.index = index
        self.ids = itertools.chain(submit.forced_token_ids, ids)
        self.made: list[int] = []
        self.longest = min(longest_output, MAX_CONTEXT - len(submit.prompt_token_ids))
        self.has_ended = False
        self.is_cancelled = False

    def step(self, forced_end: pb.RunFinishReason.ValueType | None) -> pb.RunItem:
        item = pb.RunItem(key=self.submit.key, output_index=self.index)
        if self.is_cancelled:
            item.finish.reason = pb.RUN_FINISH_REASON_CANCELLED
        elif forced_end is not None:
            item.finish.reason = forced_end
        elif self.submit.HasField("max_tokens") and self.submit.max_tokens == 0:
            item.finish.reason = pb.RUN_FINISH_REASON_LENGTH
        else:
            self._generate(item)
        self.has_ended = item.HasField("finish")
        return item

    def _generate(self, item: pb.RunItem) -> None:
        id_ = next(self.ids)
        self.made.append(id_)
        item.token_ids.append(id_)
        if self.submit.logprobs.generated:
            item.logprobs.append(scored(id_, self.submit.logprobs.top))
        self._end(item, id_)

    def _end(self, item: pb.RunItem, id_: int) -> None:
        submit, num_tokens = self.submit, len(self.made)
        may_stop = num_tokens > submit.min_tokens
        sequences = [list(sequence.ids) for sequence in submit.stop_sequences]
        matched = [n for n, ids in enumerate(sequences) if self.made[-len(ids) :] == ids]
        if may_stop and id_ in submit.stop_token_ids:
            item.finish.reason = pb.RUN_FINISH_REASON_STOP
            item.finish.stop_token_id = id_
        elif may_stop and matched:
            item.finish.reason = pb.RUN_FINISH_REASON_STOP
            item.finish.stop_sequence_index = matched[0]
        elif submit.HasField("max_tokens") and num_tokens >= submit.max_tokens:
            item.finish.reason = pb.RUN_FINISH_REASON_LENGTH
        elif num_tokens >= self.longest:
            item.finish.reason = pb.RUN_FINISH_REASON_CONTEXT_LENGTH


class _Running:
    """One request in the batch."""

    def __init__(
        self, submit: pb.Submit, reply: Reply, answers: _Answers, longest_output: int
    ) -> None:
        self.submit = submit
        self.answers = answers
        self.began_at = time.monotonic()
        self.is_cancelled = False
        self.has_ended = False
        self._has_started = False
        self._outputs = [
            _Output(submit, index, itertools.chain(reply(submit), chatter(submit)), longest_output)
            for index in range(submit.sampling.n or 1)
        ]

    def cancel_output(self, index: int) -> None:
        self._outputs[index].is_cancelled = True

    def step(self) -> list[pb.RunItem]:
        forced_end = self._forced_end()
        items = [output.step(forced_end) for output in self._outputs if not output.has_ended]
        if not self._has_started:
            self._has_started = True
            items[0].start.CopyFrom(self._start())
        self.has_ended = all(output.has_ended for output in self._outputs)
        if self.has_ended:
            items[-1].timings.CopyFrom(pb.RunTimings(queue_ms=1, prefill_ms=2, decode_ms=3))
        return items

    def _start(self) -> pb.RunStart:
        start = pb.RunStart(cached_prompt_token_count=3)
        if self.submit.logprobs.prompt:
            top = self.submit.logprobs.top
            ids = self.submit.prompt_token_ids[1:]
            start.prompt_logprobs.extend(scored(id_, top) for id_ in ids)
        return start

    def _forced_end(self) -> pb.RunFinishReason.ValueType | None:
        limit_ms = self.submit.time_limit_ms
        if self.is_cancelled:
            return pb.RUN_FINISH_REASON_CANCELLED
        if limit_ms and time.monotonic() - self.began_at > limit_ms / 1_000:
            return pb.RUN_FINISH_REASON_TIME_LIMIT
        return None


_Answers = asyncio.Queue[pb.RunResponse]


class FakeWorker(worker_pb2_grpc.WorkerServiceServicer):
    """`submits`, `cancelled_keys` and `cancelled_outputs` record what came. Clear `stepping` to
    hold the steps back. An `error` refuses every request with it.
    """

    def __init__(
        self, *, reply: Reply = chatter, model: str = "tiny", fingerprint: str = "bytes"
    ) -> None:
        self.reply = reply
        self.model = model
        self.fingerprint = fingerprint
        self.defaults = pb.WorkerDefaults()
        self.fields = [
            *(f"sampling.{field.name}" for field in pb.ResolvedSampling.DESCRIPTOR.fields),
            *(f"logprobs.{field.name}" for field in pb.LogprobOptions.DESCRIPTOR.fields),
            *(field.name for field in pb.Submit.DESCRIPTOR.fields),
        ]
        self.max_outputs = 32
        self.longest_output = MAX_CONTEXT  # beyond it the context counts as full
        self.error: pb.RunError | None = None
        self.submits: list[pb.Submit] = []
        self.cancelled_keys: list[int] = []
        self.cancelled_outputs: list[tuple[int, int]] = []
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
            capabilities=pb.WorkerCapabilities(
                fields=self.fields, max_outputs=self.max_outputs, max_top_logprobs=20
            ),
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
                self._cancel_outputs(request.cancel.outputs)

    def _submit(self, submit: pb.Submit, answers: _Answers) -> None:
        self.submits.append(submit)
        if self.error is not None:
            item = pb.RunItem(key=submit.key, error=self.error)
            answers.put_nowait(pb.RunResponse(items=[item], load=self._load()))
            return
        self._running[submit.key] = _Running(submit, self.reply, answers, self.longest_output)

    def _cancel(self, keys: Iterable[int]) -> None:
        for key in keys:
            self.cancelled_keys.append(key)
            if key in self._running:
                self._running[key].is_cancelled = True

    def _cancel_outputs(self, outputs: Iterable[pb.OutputKey]) -> None:
        for output in outputs:
            self.cancelled_outputs.append((output.key, output.output_index))
            if output.key in self._running:
                self._running[output.key].cancel_output(output.output_index)

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
            response.items.extend(running.step())
            if running.has_ended:
                del self._running[running.submit.key]
        for answers, response in responses.values():
            response.load.CopyFrom(self._load())
            answers.put_nowait(response)

    def _load(self) -> pb.Load:
        return pb.Load(
            running=len(self._running), kv_blocks_used=len(self._running), kv_blocks_total=64
        )
