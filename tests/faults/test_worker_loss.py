"""A worker group dies under a hundred streams, with no other group to take over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import psutil
import pytest

from octavo.v1 import generation_pb2 as pb
from tests.end_to_end.product import Product, chat, wait_until
from tests.faults.streams import Stream, stream_all

pytestmark = pytest.mark.slow

NUM_STREAMS = 100


def endless(number: int) -> pb.GenerateRequest:
    request = chat(f"stream {number}", max_tokens=480, ignore_eos=True)
    request.output.token_ids = True
    return request


def all_lost_within_a_second(product: Product, kill: Callable[[], None]) -> None:
    """Kills once every stream has begun; all of them end with the reason, none hangs."""
    killed_at = 0.0

    def watch(streams: list[Stream]) -> None:
        nonlocal killed_at
        wait_until(lambda: all(stream.tokens for stream in streams), "every stream has begun")
        kill()
        killed_at = time.monotonic()

    requests = [endless(number) for number in range(NUM_STREAMS)]
    streams = asyncio.run(stream_all(product.grpc, requests, watch))
    assert time.monotonic() - killed_at < 1
    assert {stream.end for stream in streams} == {"WORKER_LOST"}


def serves_again(product: Product) -> None:
    wait_until(lambda: product.health() == 200, "healthy again", 60)
    with product.generation() as stub:
        assert stub.Generate(endless(0), timeout=10).usage.completion_token_count == 480


def test_a_killed_rank_ends_its_streams_and_is_replaced(product: Product) -> None:
    processes = psutil.Process(product.worker.pid).children(recursive=True)
    (rank,) = [process for process in processes if not process.children()]
    all_lost_within_a_second(product, rank.kill)
    serves_again(product)


def test_a_killed_group_ends_its_streams_and_is_found_again(product: Product) -> None:
    all_lost_within_a_second(product, product.worker.kill)
    product.restart(product.worker)
    serves_again(product)
