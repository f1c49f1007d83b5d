"""A service that is gone is said at once, and forgotten once it is back."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from octavo.v1.generation_pb2_grpc import GenerationServiceStub
from tests.end_to_end.product import SLOWLY, Product, Service, chat, greedy, reason_of, wait_until


@pytest.fixture(scope="module")
def product(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """A product of its own: its parts are killed."""
    product = Product(checkpoints / "chat-l0", tmp_path_factory.mktemp("outages"), SLOWLY)
    product.start()
    yield product
    product.stop()


def serving(product: Product) -> bool:
    with grpc.insecure_channel(product.grpc) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = stub.Check(health_pb2.HealthCheckRequest())
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def refusal(product: Product) -> tuple[grpc.StatusCode, str, float]:
    """Code, reason and seconds of a request that cannot be served."""
    with grpc.insecure_channel(product.grpc) as channel:
        grpc.channel_ready_future(channel).result(5)
        stub = GenerationServiceStub(channel)
        started = time.monotonic()
        with pytest.raises(grpc.RpcError) as failed:
            stub.Generate(chat("Hello"), timeout=5)
        seconds = time.monotonic() - started
    code, reason, _ = reason_of(failed.value)
    return code, reason, seconds


@pytest.mark.parametrize(
    ("name", "reason"), [("tokenizer", "NO_TOKENIZER"), ("worker", "NO_WORKER")]
)
def test_a_killed_service_is_unavailable_and_comes_back(
    product: Product, name: str, reason: str
) -> None:
    service: Service = getattr(product, name)
    service.kill()
    wait_until(lambda: product.health() == 503, "/health says 503", 1.0)
    wait_until(lambda: not serving(product), "grpc health says NOT_SERVING", 1.0)
    code, said, seconds = refusal(product)
    assert (code, said) == (grpc.StatusCode.UNAVAILABLE, reason)
    assert seconds < 0.1
    product.restart(service)
    wait_until(lambda: product.health() == 200, "healthy again", 60)
    with product.generation() as stub:
        assert stub.Generate(chat("Hello", max_tokens=3)).usage.completion_token_count == 3


def test_streams_open_on_a_worker_that_dies_end_as_lost(product: Product) -> None:
    with product.generation() as stub:
        call = stub.StreamGenerate(greedy([5, 6, 7], 500))
        assert next(call).WhichOneof("event") == "accepted"
        product.worker.kill()
        with pytest.raises(grpc.RpcError) as failed:
            list(call)
    code, reason, _ = reason_of(failed.value)
    assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "WORKER_LOST")
    product.restart(product.worker)
    wait_until(lambda: product.health() == 200, "healthy again", 60)


def test_a_worker_that_is_stopped_is_noticed_though_its_connection_stays(product: Product) -> None:
    with product.generation() as stub:
        call = stub.StreamGenerate(greedy([5, 6, 7], 500))
        assert next(call).WhichOneof("event") == "accepted"
        os.kill(product.worker.pid, signal.SIGSTOP)
        try:
            wait_until(lambda: product.health() == 503, "/health says 503", 5.0)
            with pytest.raises(grpc.RpcError) as failed:
                list(call)
        finally:
            os.kill(product.worker.pid, signal.SIGCONT)
    code, reason, _ = reason_of(failed.value)
    assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "WORKER_LOST")
    wait_until(lambda: product.health() == 200, "healthy again", 60)
