"""Requests whose tokenizer dies, stops to serve or vanishes while another one is there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import pytest_asyncio

from gateway.assembly import Gateway
from gateway.config import GatewaySettings
from gateway.events import Delta, Event, Finished, FinishReason, Usage
from gateway.request import GenerationRequest, OutputOptions, Stopping
from tests.gateway.fake_tokenizer import FakeTokenizer
from tests.gateway.fake_worker import FakeWorker
from tests.gateway.waiting import until

NUM_STREAMS = 20


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A gateway between one worker and two tokenizers; the first is the one that is asked."""

    worker: FakeWorker
    tokenizers: list[FakeTokenizer]
    gateway: Gateway

    async def events_of(self, **fields: Any) -> list[Event]:
        """The events of a request for a continuation of "hi"."""
        asked = GenerationRequest(
            request_id="r", prompt="hi", arrived_at=time.monotonic(), **fields
        )
        async with aclosing(self.gateway.generation.generate(asked)) as events:
            return [event async for event in events]


@pytest_asyncio.fixture
async def pair(worker: FakeWorker) -> AsyncIterator[Pair]:
    tokenizers = [FakeTokenizer(), FakeTokenizer()]
    for tokenizer in tokenizers:
        await tokenizer.start()
    settings = GatewaySettings(
        grpc_port=0,
        worker=[worker.address],
        tokenizer=[tokenizer.address for tokenizer in tokenizers],
    )
    gateway = Gateway(settings)
    async with gateway.serving():
        await until(lambda: all(client.is_ready for client in gateway.tokenizers))
        await until(gateway.generation.is_ready)
        yield Pair(worker=worker, tokenizers=tokenizers, gateway=gateway)
    for tokenizer in tokenizers:
        await tokenizer.kill()


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


async def test_no_character_is_lost_or_doubled(pair: Pair) -> None:
    asked = [pair.events_of(stopping=Stopping(max_tokens=200)) for _ in range(NUM_STREAMS)]
    running = [asyncio.create_task(one) for one in asked]
    await until(lambda: all(len(tokenizer.frames) > 20 for tokenizer in pair.tokenizers))
    assert {client.num_open for client in pair.gateway.tokenizers} == {NUM_STREAMS // 2}
    await pair.tokenizers[0].kill()
    for events in await asyncio.gather(*running):
        assert text_of(events) == "ab" * 100
        assert isinstance(events[-1], Usage) and events[-1].num_completion_tokens == 200


async def test_a_stop_text_that_has_begun_is_found_at_the_same_token(pair: Pair) -> None:
    first, second = pair.tokenizers
    pair.worker.stepping.clear()
    pair.worker.reply = lambda submit: b"xababac"
    running = asyncio.create_task(
        pair.events_of(stopping=Stopping(stop=["ababac"]), output=OutputOptions(token_ids=True))
    )
    await until(lambda: len(pair.worker.submits) == 1)
    for _ in range(4):
        num_frames = len(first.frames)
        pair.worker._step()
        await until(lambda n=num_frames: len(first.frames) > n)  # type: ignore[misc] # a default binds the loop's variable
    await first.kill()
    for _ in range(3):
        pair.worker._step()
    await until(lambda: bool(second.frames))
    events = await running
    assert text_of(events) == "x"
    finished = next(event for event in events if isinstance(event, Finished))
    assert (finished.reason, finished.stop_text) == (FinishReason.STOP, "ababac")
    ids = [token.id for e in events if isinstance(e, Delta) for token in e.tokens]
    assert bytes(ids) == b"xababac"


async def test_a_tokenizer_that_drains_keeps_what_it_has_and_gets_nothing_new(pair: Pair) -> None:
    first, second = pair.tokenizers
    running = asyncio.create_task(pair.events_of(stopping=Stopping(max_tokens=200)))
    await until(lambda: len(first.frames) > 5)
    await first.set_serving(False)
    await until(lambda: not pair.gateway.tokenizers[0].is_ready)
    num_calls = len(first.calls)
    other = await pair.events_of(stopping=Stopping(max_tokens=3))
    assert text_of(other) == "aba"
    assert len(first.calls) == num_calls and second.calls == ["Encode"]
    assert text_of(await running) == "ab" * 100
    opened = [one for frame in second.frames for one in frame.opens]
    assert len(opened) == 1 and not opened[0].token_ids_so_far


async def test_the_only_tokenizer_may_return_in_time(pair: Pair) -> None:
    first, second = pair.tokenizers
    await second.kill()
    running = asyncio.create_task(pair.events_of(stopping=Stopping(max_tokens=300)))
    await until(lambda: len(first.frames) > 5)
    await first.kill()
    await first.start()
    assert text_of(await running) == "ab" * 150
