"""A gateway between a fake worker and a fake tokenizer, all on real sockets of this machine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import grpc.aio
import pytest_asyncio

from gateway.assembly import Gateway
from gateway.config import GatewaySettings
from octavo.v1 import generation_pb2_grpc
from tests.gateway.fake_tokenizer import FakeTokenizer
from tests.gateway.fake_worker import FakeWorker
from tests.gateway.waiting import until


@dataclass(frozen=True, kw_only=True)
class System:
    """The running parts and a channel to the gateway."""

    worker: FakeWorker
    tokenizer: FakeTokenizer
    gateway: Gateway
    address: str
    channel: grpc.aio.Channel
    stub: generation_pb2_grpc.GenerationServiceAsyncStub
    models: generation_pb2_grpc.ModelServiceAsyncStub


@pytest_asyncio.fixture
async def worker() -> AsyncIterator[FakeWorker]:
    fake = FakeWorker()
    await fake.start()
    yield fake
    await fake.kill()


@pytest_asyncio.fixture
async def tokenizer() -> AsyncIterator[FakeTokenizer]:
    fake = FakeTokenizer()
    await fake.start()
    yield fake
    await fake.kill()


@pytest_asyncio.fixture
async def system(worker: FakeWorker, tokenizer: FakeTokenizer) -> AsyncIterator[System]:
    settings = GatewaySettings(
        grpc_port=0,
        worker=[worker.address],
        tokenizer=[tokenizer.address],
        tokenizer_wait_s=0.1,
        max_requests=64,
        max_session_requests=32,
        max_prompt_bytes=8_192,
        drain_limit_s=5,
    )
    gateway = Gateway(settings)
    async with gateway.serving() as port, grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        await until(gateway.generation.is_ready)
        yield System(
            worker=worker,
            tokenizer=tokenizer,
            gateway=gateway,
            address=f"127.0.0.1:{port}",
            channel=channel,
            stub=generation_pb2_grpc.GenerationServiceStub(channel),
            models=generation_pb2_grpc.ModelServiceStub(channel),
        )
