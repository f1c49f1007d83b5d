"""Outputs whose tokenizers die at any moment, against the same outputs left alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octavo.client.services.durable_decoder import MAX_LOSSES_WITHOUT_ANSWER, DurableDecoder
from octavo.client.services.tokenizer_pool import TokenizerPool
from octavo.client.services.tokenizer_types import DecoderOptions, Piece
from octavo.errors import OctavoError
from services.tokenizer.backends import TokenizerBackend
from tests.octavo.client.services.local_tokenizer import FINGERPRINT, local_pool
from tests.services.tokenizer import vocabularies

BITS = ["Hello", " world", "  ", "\n", "é", "日本", "🦙", "½", "the cat", "."]
TEXTS = st.lists(st.sampled_from(BITS), max_size=10).map("".join)
# One for each way of decoding, and one for each that treats leading spaces in its own way.
NAMES = ("byte_level", "llama2", "windowed", "wordpiece")

quick = settings(
    derandomize=True,
    deadline=None,
    max_examples=200,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module", params=NAMES)
def backend(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> TokenizerBackend:
    return vocabularies.backend_named(request.param, tmp_path_factory.mktemp("tokenizers"))


class Sink:
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.error: OctavoError | None = None
        self.ended = asyncio.Event()

    def decoded(self, piece: Piece) -> None:
        assert not self.ended.is_set()
        self.pieces.append(piece)
        if piece.last or piece.stop is not None:
            self.ended.set()

    def fail(self, error: OctavoError) -> None:
        self.error = error
        self.ended.set()


@dataclass(frozen=True)
class Heard:
    """All that came of one output: what the pieces were cut into does not count."""

    text: str
    token_ids: Sequence[int]
    token_bytes: Sequence[bytes]
    stop_text: str | None

    @classmethod
    def from_pieces(cls, pieces: Sequence[Piece]) -> Heard:
        ids = [number for piece in pieces for number in piece.token_ids]
        stop = pieces[-1].stop
        if stop is not None:
            ids = ids[: len(ids) - len(pieces[-1].token_ids) + stop.token_index + 1]
        token_bytes = [one for piece in pieces for one in piece.token_bytes]
        return cls(
            text="".join(piece.text for piece in pieces),
            token_ids=ids,
            token_bytes=token_bytes[: len(ids)],
            stop_text=None if stop is None else stop.text,
        )


async def decode(
    pool: TokenizerPool, options: DecoderOptions, ids: Sequence[int], cuts: Sequence[int]
) -> Heard:
    """Feeds the ids in frames that end at `cuts`, a moment apart from each other."""
    sink = Sink()
    decoder = DurableDecoder(FINGERPRINT, options, sink, pool)
    edges = [0, *sorted(cut % (len(ids) + 1) for cut in cuts), len(ids)]
    for begin, end in pairwise(edges):
        if sink.ended.is_set():
            break
        decoder.feed(ids[begin:end], last=False)
        for _ in range(begin % 4):
            await asyncio.sleep(0)
    if not sink.ended.is_set():
        decoder.feed((), last=True)
    async with asyncio.timeout(5):
        await sink.ended.wait()
    assert sink.error is None
    decoder.close()
    return Heard.from_pieces(sink.pieces)


@quick
@given(
    text=TEXTS,
    stop_at=st.integers(0, 40),
    include_stop=st.booleans(),
    min_tokens=st.sampled_from([0, 0, 4]),
    cuts=st.lists(st.integers(0, 60), min_size=1, max_size=8),
    lives=st.lists(st.integers(0, 3), min_size=1, max_size=MAX_LOSSES_WITHOUT_ANSWER),
)
def test_losses_change_nothing_that_is_heard(
    *,
    backend: TokenizerBackend,
    text: str,
    stop_at: int,
    include_stop: bool,
    min_tokens: int,
    cuts: Sequence[int],
    lives: Sequence[int],
) -> None:
    ids = backend.encode([text], add_special_tokens=False)[0].ids
    options = DecoderOptions(
        prompt_tail_ids=ids[:2],
        stop_texts=[stop for stop in (text[stop_at : stop_at + 3], "the c.") if stop],
        include_stop=include_stop,
        token_bytes=True,
        min_tokens=min_tokens,
    )

    async def heard(lives: Sequence[int]) -> list[Heard]:
        async with local_pool(backend, lives) as pool:
            outputs = (decode(pool, options, ids, [cut + n for cut in cuts]) for n in range(3))
            return await asyncio.gather(*outputs)

    assert asyncio.run(heard(lives)) == asyncio.run(heard([]))


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> TokenizerBackend:
    return vocabularies.backend_named("byte_level", tmp_path_factory.mktemp("tokenizers"))


PLAIN = DecoderOptions(prompt_tail_ids=())


async def test_ids_that_end_every_tokenizer_end_their_own_output(letters: TokenizerBackend) -> None:
    async with local_pool(letters, [0] * 9) as pool:
        sink = Sink()
        DurableDecoder(FINGERPRINT, PLAIN, sink, pool).feed([1], last=True)
        await asyncio.wait_for(sink.ended.wait(), 5)
        assert sink.error is not None and sink.error.reason == "TOKENIZER_LOST"
        assert sum(t.num_losses for t in pool.tokenizers) == MAX_LOSSES_WITHOUT_ANSWER + 1


async def test_without_another_tokenizer_it_is_lost_after_the_wait(
    letters: TokenizerBackend,
) -> None:
    sink = Sink()
    pool = TokenizerPool([], wait_s=0.01)
    DurableDecoder(FINGERPRINT, PLAIN, sink, pool).feed([1], last=False)
    await asyncio.wait_for(sink.ended.wait(), 5)
    assert sink.error is not None and sink.error.reason == "NO_TOKENIZER"


async def test_a_closed_one_waits_for_no_tokenizer(letters: TokenizerBackend) -> None:
    async with local_pool(letters, [], num_tokenizers=1) as pool:
        tokenizer = next(iter(pool.tokenizers))
        sink = Sink()
        decoder = DurableDecoder(FINGERPRINT, PLAIN, sink, pool)  # before it is connected
        decoder.feed([1], last=True)
        decoder.close()
        other = await decode(pool, PLAIN, [2, 3], [1])
        assert other.token_ids == [2, 3]
        assert tokenizer.num_open == 0 and not sink.pieces


async def test_the_tokenizer_with_the_fewest_decoders_takes_the_next(
    letters: TokenizerBackend,
) -> None:
    async with local_pool(letters, [], num_tokenizers=3) as pool:
        await decode(pool, PLAIN, [1], [])
        decoders = [DurableDecoder(FINGERPRINT, PLAIN, Sink(), pool) for _ in range(6)]
        assert [tokenizer.num_open for tokenizer in pool.tokenizers] == [2, 2, 2]
        for decoder in decoders:
            decoder.close()
