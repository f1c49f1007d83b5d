"""Ten thousand requests that end early, and what is left of them: nothing."""

from __future__ import annotations

import asyncio
import re
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil
import pytest

from octavo.v1 import generation_pb2 as pb
from octavo.v1.generation_pb2_grpc import ModelServiceStub
from tests.end_to_end.product import SLOWLY, Product, Service, wait_until
from tests.faults.cancels import cancel_many

pytestmark = pytest.mark.slow

NUM_CANCELS = 10_000
NUM_WARM_UP = 1_000
MAX_GROWTH_BYTES = 16 * 2**20
LEAST_SEEN = 50
# What each process says is open, by the name of its metric.
GAUGES = {
    "gateway": ["octavo_gateway_requests_open", "octavo_gateway_sessions_open"],
    "services.tokenizer": ["octavo_tokenizer_decoders_open"],
    "services.worker": ["octavo_worker_requests_open", "octavo_worker_kv_blocks_used"],
}


@pytest.fixture(scope="module")
def product(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """One in which requests queue, and prompts take several steps."""
    folder = tmp_path_factory.mktemp("cancels")
    limits = ("--max-running=16", "--max-step-tokens=32", "--max-waiting=2048")
    product = Product(checkpoints / "chat-l0", folder, SLOWLY, *limits)
    product.start()
    yield product
    product.stop()


@dataclass(frozen=True)
class Held:
    """What the processes hold, by their ids: descriptors and threads; and all that is open."""

    resources: dict[int, tuple[int, int]]
    open: dict[str, float]


def services(product: Product) -> list[Service]:
    return [product.gateway, product.tokenizer, product.worker]


def processes(product: Product) -> list[psutil.Process]:
    roots = [psutil.Process(service.pid) for service in services(product)]
    return [one for root in roots for one in (root, *root.children(recursive=True))]


def open_in(service: Service) -> dict[str, float]:
    url = f"http://127.0.0.1:{service.ports['metrics_port']}/metrics"
    with urllib.request.urlopen(url, timeout=5) as answer:
        text = answer.read().decode()
    found = {
        name: re.search(rf"^{name} (\S+)$", text, re.MULTILINE) for name in GAUGES[service.module]
    }
    return {name: float(match[1]) for name, match in found.items() if match is not None}


def held(product: Product) -> Held:
    counts = {one.pid: (one.num_fds(), one.num_threads()) for one in processes(product)}
    gauges = [open_in(service) for service in services(product)]
    return Held(counts, {name: value for each in gauges for name, value in each.items()})


def memory(product: Product) -> dict[int, int]:
    return {one.pid: one.memory_info().rss for one in processes(product)}


def max_outputs(product: Product) -> int:
    with grpc.insecure_channel(product.grpc) as channel:
        answer = ModelServiceStub(channel).GetModel(pb.GetModelRequest())
    return min(3, answer.model.capabilities.max_outputs)


def test_ten_thousand_cancels_leave_nothing(product: Product) -> None:
    outputs = max_outputs(product)
    asyncio.run(cancel_many(product, NUM_WARM_UP, max_outputs=outputs, seed=0))
    wait_until(lambda: not any(held(product).open.values()), "nothing is open", 10)
    before, memory_before = held(product), memory(product)
    assert len(before.open) == sum(map(len, GAUGES.values()))

    reached = asyncio.run(cancel_many(product, NUM_CANCELS, max_outputs=outputs, seed=1))

    assert all(reached[state] >= LEAST_SEEN for state in ("queued", "prefilling", "decoding"))
    wait_until(lambda: held(product) == before, f"{held(product)} is {before}", 20)
    growth = {pid: size - memory_before[pid] for pid, size in memory(product).items()}
    assert all(grown <= MAX_GROWTH_BYTES for grown in growth.values()), growth
