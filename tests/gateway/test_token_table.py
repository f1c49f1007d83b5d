"""The table of a vocabulary's bytes: fetched once, and again only after a failure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from gateway import token_table
from gateway.events import Token, TopToken
from gateway.token_table import TokenTables
from octavo.client.services.replicated_tokenizer import ReplicatedTokenizer
from octavo.client.services.tokenizer import TokenizerClient
from octavo.client.services.tokenizer_pool import TokenizerPool
from octavo.client.services.worker_types import TokenLogprob
from octavo.errors import DeadlineExceededError, UnavailableError
from tests.gateway.fake_tokenizer import VOCABULARY_SIZE, FakeTokenizer
from tests.gateway.waiting import until


@pytest_asyncio.fixture
async def client(tokenizer: FakeTokenizer) -> AsyncIterator[TokenizerClient]:
    connected = TokenizerClient(tokenizer.address)
    connected.start()
    await until(lambda: connected.is_ready)
    yield connected
    await connected.close()


@pytest.fixture
def alone(client: TokenizerClient) -> ReplicatedTokenizer:
    """The one tokenizer as requests see it."""
    assert client.description is not None
    return ReplicatedTokenizer(client.description, TokenizerPool([client], wait_s=0))


async def test_it_is_fetched_once_and_in_pieces(
    tokenizer: FakeTokenizer, alone: ReplicatedTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_table, "_PIECE_TOKENS", 128)
    tables = TokenTables()
    first, second = await asyncio.gather(
        *(tables.table(alone, timeout_s=timeout_s) for timeout_s in (None, 5))
    )
    assert await tables.table(alone, timeout_s=None) is first is second
    assert tokenizer.calls == ["Decode"] * -(-VOCABULARY_SIZE // 128)
    scored = TokenLogprob(logprob=-0.5, top_token_ids=(98, 256, 10**6), top_logprobs=(0, -1, -2))
    assert first.token(97, scored) == Token(
        id=97,
        bytes=b"a",
        logprob=-0.5,
        top=(
            TopToken(id=98, bytes=b"b", logprob=0),
            TopToken(id=256, bytes=b"", logprob=-1),
            TopToken(id=10**6, bytes=b"", logprob=-2),
        ),
    )
    assert first.token(299, None) == Token(id=299)


async def test_a_deadline_ends_one_request_and_not_the_fetch(
    tokenizer: FakeTokenizer, alone: ReplicatedTokenizer
) -> None:
    tokenizer.decoding_allowed.clear()
    tables = TokenTables()
    patient = asyncio.create_task(tables.table(alone, timeout_s=5))
    with pytest.raises(DeadlineExceededError):
        await tables.table(alone, timeout_s=0.02)
    tokenizer.decoding_allowed.set()
    assert (await patient).token(97, None).bytes == b"a"
    assert tokenizer.calls == ["Decode"]


async def test_after_a_failure_the_next_request_tries_again(
    tokenizer: FakeTokenizer, client: TokenizerClient, alone: ReplicatedTokenizer
) -> None:
    tables = TokenTables()
    await tokenizer.kill()
    await until(lambda: not client.is_ready)
    with pytest.raises(UnavailableError):
        await tables.table(alone, timeout_s=5)
    await tokenizer.start()
    await until(lambda: client.is_ready)
    assert (await tables.table(alone, timeout_s=5)).token(97, None).bytes == b"a"


async def test_few_tables_are_kept(client: TokenizerClient, alone: ReplicatedTokenizer) -> None:
    tables = TokenTables()
    for name in "abcdefab":
        client.description = replace(alone.description, fingerprint=name)
        renamed = ReplicatedTokenizer(client.description, TokenizerPool([client], wait_s=0))
        await tables.table(renamed, timeout_s=5)
    assert len(tables._fetches) == 4
