"""Text from growing ids by windows: right for decoders that join words, and linear in the ids."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from services.tokenizer.backends import TokenizerBackend
from services.tokenizer.backends.huggingface import HuggingFaceBackend
from services.tokenizer.stream_text import WindowStreamText, stream_text
from services.tokenizer.tokenizer_config import TokenizerConfig
from tests.services.tokenizer import vocabularies

quick = settings(
    derandomize=True,
    deadline=None,
    max_examples=150,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


class Counting(HuggingFaceBackend):
    """Counts the ids that it decodes."""

    num_decoded = 0

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        self.num_decoded += len(ids)
        return super().decode(ids, skip_special_tokens=skip_special_tokens)


def suffixed_tokenizer() -> Tokenizer:
    """The first BPE vocabularies marked the end of a word; the last word has no space after it."""
    tokens = ["<unk>", *"abcdefgh", *(f"{letter}</w>" for letter in "abcdefgh")]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>", end_of_word_suffix="</w>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.BPEDecoder(suffix="</w>")
    tokenizer.add_special_tokens(["<unk>"])
    return tokenizer


def byte_strip_tokenizer() -> Tokenizer:
    """Byte-level, with a step after it that no table of pieces stands for."""
    tokenizer = Tokenizer.from_file(str(vocabularies.CHECKPOINTS / "fmo-l0" / "tokenizer.json"))
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip("~", 1, 0)])
    return tokenizer


BUILT = {
    "suffixed": suffixed_tokenizer,
    "wordpiece": vocabularies.wordpiece_tokenizer,
    "byte_strip": byte_strip_tokenizer,
}


@pytest.fixture(scope="module", params=BUILT)
def windowed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> TokenizerBackend:
    folder = tmp_path_factory.mktemp(request.param)
    backend = vocabularies.huggingface(vocabularies.save(BUILT[request.param](), folder))
    assert backend.pieces is None
    return backend


def streamed(backend: TokenizerBackend, tail: Sequence[int], ids: Sequence[int]) -> str:
    text = stream_text(backend, tail)
    assert isinstance(text, WindowStreamText)
    return "".join([*map(text.add, ids), text.flush()])


@quick
@given(data=st.data())
def test_windows_give_the_text_of_decode_for_any_ids(
    windowed: TokenizerBackend, data: st.DataObject
) -> None:
    numbers = st.integers(0, min(windowed.vocabulary_size, 262) - 1)
    tail = data.draw(st.lists(numbers, max_size=8))
    ids = data.draw(st.lists(numbers, max_size=80))
    whole = windowed.decode([*tail, *ids], skip_special_tokens=True)
    before = windowed.decode(tail, skip_special_tokens=True)
    common = next(
        (at for at, (a, b) in enumerate(zip(whole, before, strict=False)) if a != b),
        min(len(whole), len(before)),
    )
    assert streamed(windowed, tail, ids) == whole[common:]


@pytest.mark.parametrize("kind", ["words", "special", "no_utf8", "half"])
def test_the_work_for_each_id_is_bounded(tmp_path: Path, kind: str) -> None:
    folder = vocabularies.save(byte_strip_tokenizer(), tmp_path)
    backend = Counting(folder / "tokenizer.json", TokenizerConfig())
    ids = {
        "words": backend.encode(["the cat 日本 "], add_special_tokens=False)[0].ids,
        "special": [0, 1],
        "no_utf8": [3 + 200],
        "half": backend.encode(["日"], add_special_tokens=False)[0].ids[:2],
    }[kind]
    counts = []
    for length in (500, 1_000, 2_000):
        backend.num_decoded = 0
        output = (list(ids) * length)[:length]
        assert streamed(backend, [], output) == backend.decode(output, skip_special_tokens=True)
        counts.append(backend.num_decoded - length)
    assert all(later <= 2.2 * earlier + 100 for earlier, later in pairwise(counts))
    assert counts[-1] <= 80 * 2_000
