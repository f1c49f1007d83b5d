"""Calls over tokenizers on sockets: what one loses, another answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from octavo.client.services.replicated_tokenizer import ReplicatedTokenizer
from octavo.client.services.tokenizer import TokenizerClient
from octavo.client.services.tokenizer_pool import TokenizerPool
from octavo.client.services.tokenizer_types import TokenizerDescription
from octavo.errors import DeadlineExceededError, UnavailableError
from tests.gateway.fake_tokenizer import FakeTokenizer
from tests.gateway.waiting import until

WAIT_S = 0.5


class Pair:
    """Two tokenizers, their clients, and both as one."""

    def __init__(self, services: list[FakeTokenizer]) -> None:
        self.services = services
        self.clients = [TokenizerClient(service.address) for service in services]
        self.pool = TokenizerPool(self.clients, wait_s=WAIT_S)
        described = TokenizerDescription(
            fingerprint="bytes", vocabulary_size=9, has_chat_template=True, max_text_bytes=9
        )
        self.tokenizer = ReplicatedTokenizer(described, self.pool)

    async def call_in_flight(self, service: FakeTokenizer) -> asyncio.Task[bytes]:
        """A call that the service, which is the first to be asked, does not answer."""
        service.encoding_allowed.clear()

        async def encode() -> bytes:
            return bytes(await self.tokenizer.encode("hi", timeout_s=5))

        calling = asyncio.create_task(encode())
        await until(lambda: service.calls == ["Encode"])
        return calling


@pytest_asyncio.fixture
async def pair() -> AsyncIterator[Pair]:
    services = [FakeTokenizer(), FakeTokenizer()]
    for service in services:
        await service.start()
    pair = Pair(services)
    for client in pair.clients:
        client.on_change = pair.pool.note_change
        client.start()
    await until(lambda: all(client.is_ready for client in pair.clients))
    yield pair
    for client in pair.clients:
        await client.close()
    for service in services:
        service.encoding_allowed.set()
        await service.kill()


async def test_a_call_that_is_lost_is_made_again_elsewhere(pair: Pair) -> None:
    calling = await pair.call_in_flight(pair.services[0])
    await pair.services[0].kill()
    assert await calling == b"hi"
    assert pair.services[1].calls == ["Encode"]


async def test_the_one_with_fewer_calls_is_asked(pair: Pair) -> None:
    calling = await pair.call_in_flight(pair.services[0])
    assert bytes(await pair.tokenizer.encode("x")) == b"x"
    assert pair.services[1].calls == ["Encode"]
    pair.services[0].encoding_allowed.set()
    assert await calling == b"hi"


async def test_the_same_tokenizer_answers_once_it_is_back(pair: Pair) -> None:
    await pair.services[1].kill()
    await until(lambda: not pair.clients[1].is_ready)
    calling = await pair.call_in_flight(pair.services[0])
    await pair.services[0].kill()
    pair.services[0].encoding_allowed.set()
    await pair.services[0].start()
    assert await calling == b"hi"


async def test_a_call_is_made_again_once_only(pair: Pair) -> None:
    calling = await pair.call_in_flight(pair.services[0])
    pair.services[1].encoding_allowed.clear()
    for service in pair.services:
        await until(lambda service=service: bool(service.calls))  # type: ignore[misc] # a default binds the loop's variable
        await service.kill()
    with pytest.raises(UnavailableError) as raised:
        await calling
    assert raised.value.reason == "TOKENIZER_LOST"


async def test_where_none_returns_the_call_is_lost_after_the_wait(pair: Pair) -> None:
    await pair.services[1].kill()
    calling = await pair.call_in_flight(pair.services[0])
    began_at = time.monotonic()
    await pair.services[0].kill()
    with pytest.raises(UnavailableError) as raised:
        await calling
    assert raised.value.reason == "TOKENIZER_LOST"
    assert WAIT_S <= time.monotonic() - began_at < 3


async def test_an_error_that_is_no_loss_is_not_tried_again(pair: Pair) -> None:
    for service in pair.services:
        service.encoding_allowed.clear()
    with pytest.raises(DeadlineExceededError):
        await pair.tokenizer.encode("x", timeout_s=0.05)
    assert pair.services[0].calls == ["Encode"] and not pair.services[1].calls
