"""Many streams at once, and all that a client hears of each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import grpc
import grpc.aio

from octavo.v1 import generation_pb2 as pb
from octavo.v1 import generation_pb2_grpc
from tests.end_to_end.product import reason_of

# Far away: a worker refuses what it could not end before its deadline, which is not at stake here.
TIMEOUT_S = 600.0


@dataclass
class Stream:
    """One stream, as far as it has come. `end` is the finish reason, or the reason of an error."""

    text: str = ""
    tokens: list[tuple[int, bytes]] = field(default_factory=list)
    end: str = ""
    stop_text: str = ""
    num_completion_tokens: int = 0

    def take(self, event: pb.StreamGenerateResponse) -> None:
        self.text += event.delta.text
        self.tokens += [(token.id, token.bytes) for token in event.delta.tokens]
        if event.HasField("finished"):
            self.end = pb.FinishReason.Name(event.finished.reason)
            self.stop_text = event.finished.stop_text
        if event.HasField("usage"):
            self.num_completion_tokens = event.usage.completion_token_count


async def stream_all(
    address: str,
    requests: Sequence[pb.GenerateRequest],
    meanwhile: Callable[[list[Stream]], object] = lambda streams: None,
) -> list[Stream]:
    """Runs all requests at once; `meanwhile` runs in a thread and sees the streams grow."""
    streams = [Stream() for _ in requests]
    async with grpc.aio.insecure_channel(address) as channel:
        stub = generation_pb2_grpc.GenerationServiceStub(channel)
        running = [_run(stub, *pair) for pair in zip(requests, streams, strict=True)]
        await asyncio.gather(*running, asyncio.to_thread(meanwhile, streams))
    return streams


async def _run(
    stub: generation_pb2_grpc.GenerationServiceAsyncStub,
    request: pb.GenerateRequest,
    stream: Stream,
) -> None:
    try:
        async for event in stub.StreamGenerate(request, timeout=TIMEOUT_S):
            stream.take(event)
    except grpc.aio.AioRpcError as error:
        _, stream.end, _ = reason_of(error)
