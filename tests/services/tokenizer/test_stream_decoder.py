"""Streamed text against whole text, over every kind of tokenizer and any split into frames."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octavo.errors import InvalidArgumentError
from services.tokenizer.backends import TokenizerBackend
from services.tokenizer.backends.huggingface import HuggingFaceBackend
from services.tokenizer.stream_decoder import Decoded, Opening, StreamDecoder

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
BITS = [
    "Hello",
    " world",
    "the cat",
    "  ",
    " ",
    "\n",
    "é",
    "naïve",
    "日本",
    "🦙",
    "👩‍👩‍👧",
    "½",
    "<s>",
    ".",
]
TEXTS = st.lists(
    st.sampled_from(BITS) | st.text(st.characters(codec="utf-8"), max_size=4), max_size=8
).map("".join)

quick = settings(
    derandomize=True,
    deadline=None,
    max_examples=60,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def stream(
    backend: TokenizerBackend, ids: Sequence[int], cuts: Sequence[int], **opening: object
) -> list[Decoded]:
    """What the frames between `cuts` are answered with; the last frame is marked as such."""
    decoder = StreamDecoder(backend, Opening(**opening))  # type: ignore[arg-type]  # fields by name
    edges = [0, *sorted(cut % (len(ids) + 1) for cut in cuts), len(ids)]
    frames = [ids[begin:end] for begin, end in pairwise(edges)]
    found: list[Decoded] = []
    for index, frame in enumerate(frames):
        found.append(decoder.add(frame, last=index == len(frames) - 1))
        if found[-1].stop is not None:
            break
    return found


def joined(found: Sequence[Decoded]) -> str:
    return "".join(decoded.text for decoded in found)


def expected(backend: TokenizerBackend, tail: Sequence[int], ids: Sequence[int]) -> str:
    """Decode(tail + ids) without Decode(tail). Half a character at the end of the tail does not
    count where its other half follows.
    """
    whole = backend.decode([*tail, *ids], skip_special_tokens=True)
    before = backend.decode(tail, skip_special_tokens=True)
    pairs = enumerate(zip(whole, before, strict=False))
    shared = next((index for index, (one, other) in pairs if one != other), len(before))
    assert before[:shared].startswith(before.rstrip(REPLACEMENT))
    return whole[shared:]


def check_text(
    backend: TokenizerBackend, prompt: str, text: str, num_tail: int, cuts: Sequence[int]
) -> None:
    ids = backend.encode([prompt + text], add_special_tokens=True)[0].ids
    start = len(ids) - len(backend.encode([text], add_special_tokens=False)[0].ids)
    start = max(start, 0)
    tail, output = ids[max(start - num_tail, 0) : start], ids[start:]
    deltas = stream(backend, output, cuts, prompt_tail=tail)
    assert joined(deltas) == expected(backend, tail, output)


CUTS = st.lists(st.integers(0, 60), max_size=6)


@quick
@given(prompt=TEXTS, text=TEXTS, num_tail=st.integers(0, 8), cuts=CUTS)
def test_deltas_joined_are_the_text(
    backend: TokenizerBackend, prompt: str, text: str, num_tail: int, cuts: Sequence[int]
) -> None:
    check_text(backend, prompt, text, num_tail, cuts)


@pytest.mark.slow
@pytest.mark.real_model
@quick
@given(prompt=TEXTS, text=TEXTS, num_tail=st.integers(0, 8), cuts=CUTS)
def test_deltas_joined_are_the_text_of_the_default_model(
    default_backend: HuggingFaceBackend, prompt: str, text: str, num_tail: int, cuts: Sequence[int]
) -> None:
    check_text(default_backend, prompt, text, num_tail, cuts)


@quick
@given(data=st.data(), cuts=CUTS)
def test_any_ids_give_the_text_of_decode(
    backend: TokenizerBackend, data: st.DataObject, cuts: Sequence[int]
) -> None:
    numbers = st.integers(0, min(backend.vocabulary_size, 400) - 1)
    tail = data.draw(st.lists(numbers, max_size=8))
    ids = data.draw(st.lists(numbers, max_size=24))
    assert joined(stream(backend, ids, cuts, prompt_tail=tail)) == expected(backend, tail, ids)


@pytest.mark.parametrize("text", ["é", "日", "🦙", "👩‍👩‍👧"])
def test_a_tail_that_ends_in_half_a_character_leaves_it_to_the_output(
    backend: TokenizerBackend, text: str
) -> None:
    ids = backend.encode([f"a{text}"], add_special_tokens=False)[0].ids
    for cut in range(len(ids) + 1):
        tail, output = ids[:cut][-8:], ids[cut:]
        deltas = joined(stream(backend, output, range(len(output)), prompt_tail=tail))
        assert deltas == expected(backend, tail, output)
        assert REPLACEMENT not in deltas


def test_half_a_character_is_held_back_and_flushed(backend: TokenizerBackend) -> None:
    ids = backend.encode(["a🦙"], add_special_tokens=False)[0].ids
    if len(ids) < 4:
        pytest.skip("a vocabulary without bytes")
    found = stream(backend, ids[:-1], range(len(ids)))
    assert REPLACEMENT not in joined(found[:-1])
    assert joined(found) == backend.decode(ids[:-1], skip_special_tokens=True)
    assert joined(found).endswith(REPLACEMENT)


def test_a_leading_space_stays_after_a_prompt_and_goes_without(llama2: HuggingFaceBackend) -> None:
    hello = llama2.encode(["hello world"], add_special_tokens=False)[0].ids
    assert joined(stream(llama2, hello, [1])) == "hello world"
    assert joined(stream(llama2, hello, [1], prompt_tail=[1])) == "hello world"
    assert joined(stream(llama2, hello, [1], prompt_tail=hello)) == " hello world"


def test_bytes_of_each_id_come_where_asked_for(backend: TokenizerBackend) -> None:
    ids = backend.encode(["hello"], add_special_tokens=False)[0].ids
    (with_bytes,) = stream(backend, ids, [], token_bytes=True)
    (without,) = stream(backend, ids, [])
    assert list(with_bytes.token_bytes) == [backend.token_bytes(number) for number in ids]
    assert not without.token_bytes


def check_reopening(
    backend: TokenizerBackend, text: str, stops: Sequence[str], cut: int, *, include_stop: bool
) -> None:
    """A decoder lost after any frame and opened again gives exactly the rest."""
    ids = backend.encode([text], add_special_tokens=False)[0].ids
    options = {"stop_texts": stops, "include_stop": include_stop, "prompt_tail": ids[:2]}
    whole = joined(stream(backend, ids, [], **options))
    cut %= len(ids) + 1
    first = StreamDecoder(backend, Opening(**options))  # type: ignore[arg-type]  # fields by name
    sent = first.add(ids[:cut], last=False)
    if sent.stop is not None:
        assert sent.text == whole
        return
    size = len(sent.text.encode())
    again = stream(backend, ids[cut:], [], **options, ids_so_far=ids[:cut], sent_bytes=size)
    assert sent.text + joined(again) == whole


@quick
@given(text=TEXTS, cut=st.integers(0, 60), include=st.booleans(), seed=st.integers(0, 99))
def test_a_decoder_that_is_opened_again_gives_the_rest(
    backend: TokenizerBackend, text: str, cut: int, include: bool, seed: int
) -> None:
    start = random.Random(seed).randrange(len(text) + 1)
    stops = [stop for stop in (text[start : start + 3], "the c") if stop]
    check_reopening(backend, text, stops, cut, include_stop=include)


def test_a_stop_among_the_ids_so_far_comes_with_the_next_frame(llama2: HuggingFaceBackend) -> None:
    ids = llama2.encode(["hello world the cat"], add_special_tokens=False)[0].ids
    decoder = StreamDecoder(llama2, Opening(ids_so_far=ids, sent_bytes=3, stop_texts=["world"]))
    decoded = decoder.add([], last=False)
    assert decoded.text == "lo "
    assert decoded.stop is not None
    assert decoded.stop.text == "world"


@pytest.mark.parametrize(
    ("opening", "field"),
    [
        (Opening(prompt_tail=[1] * 9), "opens.prompt_tail_ids"),
        (Opening(prompt_tail=[10**6]), "opens.prompt_tail_ids"),
        (Opening(ids_so_far=[10**6]), "opens.token_ids_so_far"),
        (Opening(stop_texts=["x"] * 17), "opens.stop_texts"),
        (Opening(stop_texts=[""]), "opens.stop_texts"),
        (Opening(stop_texts=["é" * 513]), "opens.stop_texts"),
        (Opening(sent_bytes=1), "opens.sent_bytes"),
    ],
)
def test_what_a_decoder_cannot_be_opened_with(
    llama2: HuggingFaceBackend, opening: Opening, field: str
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        StreamDecoder(llama2, opening)
    assert caught.value.metadata["field"] == field


def test_sent_bytes_end_between_characters(llama2: HuggingFaceBackend) -> None:
    ids = llama2.encode(["é"], add_special_tokens=False)[0].ids
    with pytest.raises(InvalidArgumentError, match="between two characters"):
        StreamDecoder(llama2, Opening(ids_so_far=ids, sent_bytes=1))


def test_ids_past_the_vocabulary_are_refused(llama2: HuggingFaceBackend) -> None:
    decoder = StreamDecoder(llama2, Opening())
    with pytest.raises(InvalidArgumentError) as caught:
        decoder.add([llama2.vocabulary_size], last=False)
    assert caught.value.metadata["field"] == "entries.token_ids"
