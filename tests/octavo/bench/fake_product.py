"""A GenerationService that answers at once: `max_tokens` letters, or an error for FAILING_ID."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio

from octavo.errors import ResourceExhaustedError
from octavo.rpc.status import abort
from octavo.v1 import generation_pb2 as pb
from octavo.v1 import generation_pb2_grpc

FAILING_ID = 0
ENDLESS_TOKENS = 100  # an answer this long waits for its cancel
_FULL = ResourceExhaustedError("full", reason="QUEUE_FULL")


class FakeGeneration(generation_pb2_grpc.GenerationServiceServicer):
    """`cancelled` counts requests that a client cancelled."""

    def __init__(self) -> None:
        self.cancelled = 0

    async def Generate(self, request: pb.GenerateRequest, context: Any) -> pb.GenerateResponse:
        if FAILING_ID in request.token_ids.ids:
            await abort(context, _FULL)
        return pb.GenerateResponse(usage=_usage(request))

    async def StreamGenerate(
        self, request: pb.GenerateRequest, context: Any
    ) -> AsyncIterator[pb.StreamGenerateResponse]:
        if FAILING_ID in request.token_ids.ids:
            await abort(context, _FULL)
        try:
            for _ in range(request.stopping.max_tokens):
                yield pb.StreamGenerateResponse(delta=pb.Delta(text="a"))
                await asyncio.sleep(0)
            if request.stopping.max_tokens >= ENDLESS_TOKENS:
                await asyncio.Event().wait()
            yield pb.StreamGenerateResponse(usage=_usage(request))
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += 1
            raise

    async def OpenSession(
        self, requests: AsyncIterator[pb.OpenSessionRequest], context: Any
    ) -> AsyncIterator[pb.OpenSessionResponse]:
        async for act in requests:
            if act.HasField("cancel"):
                self.cancelled += 1
                yield pb.OpenSessionResponse(key=act.key, usage=pb.Usage())
                continue
            if FAILING_ID in act.open.token_ids.ids:
                error = pb.Error(code=pb.ERROR_CODE_RESOURCE_EXHAUSTED, reason="QUEUE_FULL")
                yield pb.OpenSessionResponse(key=act.key, error=error)
                continue
            for _ in range(act.open.stopping.max_tokens):
                yield pb.OpenSessionResponse(key=act.key, delta=pb.Delta(text="a"))
            if act.open.stopping.max_tokens < ENDLESS_TOKENS:
                yield pb.OpenSessionResponse(key=act.key, usage=_usage(act.open))

    async def Tokenize(self, request: pb.TokenizeRequest, context: Any) -> pb.TokenizeResponse:
        raise NotImplementedError

    async def Detokenize(
        self, request: pb.DetokenizeRequest, context: Any
    ) -> pb.DetokenizeResponse:
        raise NotImplementedError


@asynccontextmanager
async def serving(service: FakeGeneration) -> AsyncIterator[str]:
    """The service on a free port; its address."""
    server = grpc.aio.server()
    generation_pb2_grpc.add_GenerationServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


def _usage(request: pb.GenerateRequest) -> pb.Usage:
    return pb.Usage(completion_token_count=request.stopping.max_tokens)
