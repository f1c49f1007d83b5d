"""A tokenizer dies or stands still under a hundred streams; a second one is there."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from octavo.v1 import generation_pb2 as pb
from tests.end_to_end.product import Product, Service, wait_until
from tests.faults.streams import Stream, stream_all

pytestmark = pytest.mark.slow

NUM_STREAMS = 100


def request(number: int) -> pb.GenerateRequest:
    """Noise of its own for each number, with half characters and stop texts that break off."""
    return pb.GenerateRequest(
        prompt=f"stream {number}",
        sampling=pb.SamplingParameters(temperature=1, seed=number),
        stopping=pb.StoppingParameters(
            max_tokens=250, ignore_eos=True, stop=[chr(97 + number % 26) * 2, "\ufffd!"]
        ),
        output=pb.OutputOptions(text=True, token_ids=True),
    )


REQUESTS = [request(number) for number in range(NUM_STREAMS)]


@pytest.fixture(scope="module")
def undisturbed(product: Product) -> list[Stream]:
    streams = asyncio.run(stream_all(product.grpc, REQUESTS))
    assert {stream.end for stream in streams} == {"FINISH_REASON_LENGTH", "FINISH_REASON_STOP"}
    return streams


@pytest.fixture
def tokenizer(product: Product) -> Iterator[Service]:
    """The tokenizer that the test may end; afterwards both serve again."""
    tokenizer = product.tokenizers[1]
    yield tokenizer
    if tokenizer.process_ended():
        product.restart(tokenizer)
    wait_until(lambda: product.health() == 200, "healthy")


def once_half_way(act: Callable[[], None]) -> Callable[[list[Stream]], None]:
    """Acts when the streams have half of their tokens."""

    def watch(streams: list[Stream]) -> None:
        def have_half() -> bool:
            return sum(len(stream.tokens) for stream in streams) > NUM_STREAMS * 60

        wait_until(have_half, "half of all tokens")
        act()

    return watch


def test_no_character_is_lost_or_doubled_by_a_kill(
    product: Product, tokenizer: Service, undisturbed: list[Stream]
) -> None:
    disturbed = asyncio.run(stream_all(product.grpc, REQUESTS, once_half_way(tokenizer.kill)))
    assert disturbed == undisturbed


def test_a_tokenizer_that_stands_still_is_left_within_seconds(
    product: Product, tokenizer: Service, undisturbed: list[Stream]
) -> None:
    assert tokenizer.process is not None
    tokenizer.process.send_signal(signal.SIGSTOP)
    try:
        began_at = time.monotonic()
        disturbed = asyncio.run(stream_all(product.grpc, REQUESTS[:20]))
        assert time.monotonic() - began_at < 15
    finally:
        tokenizer.process.send_signal(signal.SIGCONT)
    assert disturbed == undisturbed[:20]
