"""The three ways in over gRPC, on the stubs alone: a client that is cheap measures the server."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeAlias

import grpc.aio

from octavo.bench.sample import Sample
from octavo.bench.target import Target
from octavo.bench.workload import Job
from octavo.rpc.channel import open_public_channel
from octavo.rpc.status import error_from_rpc
from octavo.v1 import generation_pb2 as pb
from octavo.v1.generation_pb2_grpc import GenerationServiceStub

if TYPE_CHECKING:  # names and subscripts that exist in the stubs only
    from octavo.v1.generation_pb2_grpc import GenerationServiceAsyncStub

    _SessionCall: TypeAlias = grpc.aio.StreamStreamCall[
        pb.OpenSessionRequest, pb.OpenSessionResponse
    ]


class Unary:
    """`Generate`: the whole answer at once, so no job is cancelled: nothing is seen before."""

    def __init__(self, stub: GenerationServiceAsyncStub, target: Target) -> None:
        self._stub, self._target = stub, target

    async def generate(self, job: Job) -> Sample:
        sample = Sample(job)
        call = self._stub.Generate(
            _request(job, self._target), timeout=self._target.request_limit_s
        )
        try:
            answer = await call
            sample.take_usage(answer.usage.completion_token_count)
        except grpc.aio.AioRpcError as error:
            sample.fail(error_from_rpc(error).reason)
        return sample.end()


class Stream:
    """`StreamGenerate`: one stream a request."""

    def __init__(self, stub: GenerationServiceAsyncStub, target: Target) -> None:
        self._stub, self._target = stub, target

    async def generate(self, job: Job) -> Sample:
        sample = Sample(job)
        request = _request(job, self._target)
        call = self._stub.StreamGenerate(request, timeout=self._target.request_limit_s)
        try:
            async for event in call:
                if _take(event, sample):
                    call.cancel()
                    break
        except grpc.aio.AioRpcError as error:
            sample.fail(error_from_rpc(error).reason)
        return sample.end()


class Session:
    """`OpenSession`: all requests on one stream, each with its key."""

    def __init__(self, call: _SessionCall, target: Target) -> None:
        self._call, self._target = call, target
        self._turn = asyncio.Lock()  # a stream takes one write at a time
        self._keys = itertools.count(1)
        self._open: dict[int, tuple[Sample, asyncio.Event]] = {}
        self._lost: str | None = None
        self._cancels: set[asyncio.Task[None]] = set()

    async def generate(self, job: Job) -> Sample:
        key, sample, ended = next(self._keys), Sample(job), asyncio.Event()
        if self._lost is not None:
            sample.fail(self._lost)
            return sample.end()
        self._open[key] = (sample, ended)
        await self._write(pb.OpenSessionRequest(key=key, open=_request(job, self._target)))
        try:
            async with asyncio.timeout(self._target.request_limit_s):
                await ended.wait()
        except TimeoutError:
            sample.fail("NO_ANSWER")
        self._open.pop(key, None)
        return sample.end()

    async def read(self) -> None:
        """Hands events to the requests that they belong to, until the stream ends."""
        try:
            async for event in self._call:
                if event.key in self._open:
                    self._take(event, *self._open[event.key])
        except grpc.aio.AioRpcError as error:
            self._lost = error_from_rpc(error).reason
        self._lost = self._lost or "SESSION_ENDED"
        for sample, ended in self._open.values():
            if not ended.is_set():
                sample.fail(self._lost)
                ended.set()

    def _take(self, event: pb.OpenSessionResponse, sample: Sample, ended: asyncio.Event) -> None:
        if _take(event, sample):
            cancel = pb.OpenSessionRequest(key=event.key, cancel=pb.CancelGeneration())
            writing = asyncio.create_task(self._write(cancel))
            self._cancels.add(writing)
            writing.add_done_callback(self._cancels.discard)
        if event.HasField("error"):
            sample.fail(event.error.reason)
        if event.HasField("error") or event.HasField("usage"):
            ended.set()

    async def _write(self, act: pb.OpenSessionRequest) -> None:
        # A stream that broke says why where it is read.
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            async with self._turn:
                await self._call.write(act)


@asynccontextmanager
async def open_unary(target: Target) -> AsyncIterator[Unary]:
    """The unary door on a channel of its own."""
    async with open_public_channel(target.grpc) as channel:
        yield Unary(GenerationServiceStub(channel), target)


@asynccontextmanager
async def open_stream(target: Target) -> AsyncIterator[Stream]:
    """The streaming door on a channel of its own."""
    async with open_public_channel(target.grpc) as channel:
        yield Stream(GenerationServiceStub(channel), target)


@asynccontextmanager
async def open_session(target: Target) -> AsyncIterator[Session]:
    """One session on a channel of its own."""
    async with open_public_channel(target.grpc) as channel:
        call = GenerationServiceStub(channel).OpenSession()
        session = Session(call, target)
        reading = asyncio.create_task(session.read())
        try:
            yield session
        finally:
            call.cancel()
            reading.cancel()
            await asyncio.wait([reading])


def _request(job: Job, target: Target) -> pb.GenerateRequest:
    return pb.GenerateRequest(
        token_ids=pb.TokenIds(ids=job.prompt_ids),
        sampling=pb.SamplingParameters(temperature=target.temperature, seed=job.number),
        stopping=pb.StoppingParameters(max_tokens=job.max_tokens, ignore_eos=True),
    )


def _take(event: pb.StreamGenerateResponse | pb.OpenSessionResponse, sample: Sample) -> bool:
    """Takes note of an event; whether the client cancels now."""
    if event.HasField("delta"):
        return bool(event.delta.text) and sample.take_delta()
    if event.HasField("usage"):
        sample.take_usage(event.usage.completion_token_count)
    return False
