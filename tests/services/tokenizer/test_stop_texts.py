"""Stop texts: whatever the pieces, the same match, and nothing of it is given too early."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.tokenizer.backends.huggingface import HuggingFaceBackend
from services.tokenizer.stop_texts import StopTexts
from services.tokenizer.stream_decoder import Opening, Stop, StreamDecoder

quick = settings(derandomize=True, deadline=None, max_examples=300, database=None)


def oracle(
    text: str, stops: Sequence[str], *, include_stop: bool, first_end: int = 0
) -> tuple[str, str | None]:
    """Tries every end from the left, and at each the longest stop text first."""
    for end in range(first_end, len(text) + 1):
        for stop in sorted(stops, key=len, reverse=True):
            if text[:end].endswith(stop):
                return text[: end if include_stop else end - len(stop)], stop
    return text, None


def scan(
    pieces: Sequence[str], stops: Sequence[str], *, include_stop: bool, first_obeyed: int = 0
) -> tuple[str, str | None]:
    scanner = StopTexts(stops, include_stop=include_stop)
    text = ""
    for index, piece in enumerate(pieces):
        scanned = scanner.add(piece, obeyed=index >= first_obeyed)
        text += scanned.text
        if scanned.stop is not None:
            return text, scanned.stop
    return text + scanner.flush(), None


SHORT = st.text("ab", min_size=1, max_size=4)


@quick
@given(
    pieces=st.lists(st.text("abc", max_size=4), max_size=10),
    stops=st.lists(SHORT, max_size=4),
    include=st.booleans(),
)
def test_the_match_is_the_same_however_the_text_is_cut(
    pieces: list[str], stops: list[str], include: bool
) -> None:
    found = scan(pieces, stops, include_stop=include)
    assert found == oracle("".join(pieces), stops, include_stop=include)


@quick
@given(
    pieces=st.lists(st.text("abc", max_size=4), max_size=10),
    stops=st.lists(SHORT, max_size=4),
    include=st.booleans(),
    first_obeyed=st.integers(0, 10),
)
def test_a_match_that_ends_too_early_is_text(
    pieces: list[str], stops: list[str], include: bool, first_obeyed: int
) -> None:
    found = scan(pieces, stops, include_stop=include, first_obeyed=first_obeyed)
    num_ignored = len("".join(pieces[:first_obeyed]))
    assert found == oracle("".join(pieces), stops, include_stop=include, first_end=num_ignored + 1)


@quick
@given(
    pieces=st.lists(st.text("ab", max_size=3), max_size=8),
    stops=st.lists(SHORT, min_size=1, max_size=3),
)
def test_only_what_may_become_a_stop_text_is_held_back(pieces: list[str], stops: list[str]) -> None:
    scanner = StopTexts(stops, include_stop=False)
    given_out = whole = ""
    for piece in pieces:
        whole += piece
        scanned = scanner.add(piece)
        given_out += scanned.text
        if scanned.stop is not None:
            return
        held = whole.removeprefix(given_out)
        assert not held or any(stop.startswith(held) for stop in stops)


def test_the_match_that_ends_first_wins_then_the_longest() -> None:
    assert scan(["xabcd"], ["abcd", "bc"], include_stop=False) == ("xa", "bc")
    assert scan(["xabc"], ["bc", "abc"], include_stop=True) == ("xabc", "abc")


@pytest.mark.parametrize("include", [False, True])
def test_a_stop_text_that_straddles_tokens(llama2: HuggingFaceBackend, include: bool) -> None:
    ids = llama2.encode(["the cat sat hello"], add_special_tokens=False)[0].ids
    opening = Opening(stop_texts=["at s"], include_stop=include)
    decoder = StreamDecoder(llama2, opening)
    answers = [decoder.add([token_id], last=False) for token_id in ids[:8]]
    stopped = next(index for index, answer in enumerate(answers) if answer.stop is not None)
    text = "".join(answer.text for answer in answers[: stopped + 1])
    assert text == ("the cat s" if include else "the c")
    assert answers[stopped].stop == Stop(text="at s", token_index=0)


def test_the_index_is_that_of_the_id_that_completes_the_match(llama2: HuggingFaceBackend) -> None:
    ids = llama2.encode(["the cat sat hello"], add_special_tokens=False)[0].ids
    decoded = StreamDecoder(llama2, Opening(stop_texts=["at s"])).add(ids, last=True)
    assert decoded.text == "the c"
    assert decoded.stop is not None
    completed = llama2.decode(ids[: decoded.stop.token_index + 1], skip_special_tokens=True)
    before = llama2.decode(ids[: decoded.stop.token_index], skip_special_tokens=True)
    assert "at s" in completed
    assert "at s" not in before


def test_what_is_held_back_is_flushed_with_the_last_ids(llama2: HuggingFaceBackend) -> None:
    ids = llama2.encode(["hello"], add_special_tokens=False)[0].ids
    decoder = StreamDecoder(llama2, Opening(stop_texts=["lo world"]))
    first, last = decoder.add(ids, last=False), decoder.add([], last=True)
    assert (first.text, last.text) == ("hel", "lo")


def test_a_stop_text_may_match_what_is_flushed(llama2: HuggingFaceBackend) -> None:
    half = llama2.encode(["🦙"], add_special_tokens=False)[0].ids[1:]
    decoder = StreamDecoder(llama2, Opening(stop_texts=["\N{REPLACEMENT CHARACTER}"]))
    decoded = decoder.add(half[:3], last=True)
    assert decoded.text == ""
    assert decoded.stop is not None
    assert decoded.stop.token_index == 2


def test_a_stop_text_is_obeyed_once_enough_ids_came(llama2: HuggingFaceBackend) -> None:
    ids = llama2.encode(["hello hello hello"], add_special_tokens=False)[0].ids
    first = StreamDecoder(llama2, Opening(stop_texts=["hello"])).add(ids, last=True).stop
    assert first is not None
    for min_ids, text in ((first.token_index, ""), (first.token_index + 1, "hello ")):
        opening = Opening(stop_texts=["hello"], min_ids=min_ids)
        whole = StreamDecoder(llama2, opening).add(ids, last=True)
        assert (whole.text, whole.stop and whole.stop.text) == (text, "hello")
        one_by_one = StreamDecoder(llama2, opening)
        answers = [one_by_one.add([token_id], last=False) for token_id in ids]
        stopped = next(index for index, answer in enumerate(answers) if answer.stop is not None)
        assert whole.stop is not None
        assert (stopped, answers[stopped].stop) == (
            whole.stop.token_index,
            Stop(text="hello", token_index=0),
        )
        assert "".join(answer.text for answer in answers[: stopped + 1]) == text


def test_a_decoder_that_is_opened_again_counts_the_ids_so_far(llama2: HuggingFaceBackend) -> None:
    ids = llama2.encode(["hello hello"], add_special_tokens=False)[0].ids
    cut = len(ids) // 2
    opening = Opening(stop_texts=["hello"], min_ids=cut, ids_so_far=ids[:cut])
    resumed = StreamDecoder(llama2, opening)
    stop = resumed.add(ids[cut:], last=True).stop
    assert stop is not None
    assert stop.token_index == len(ids) - cut - 1


def test_min_ids_above_all_ids_obey_no_stop_text(llama2: HuggingFaceBackend) -> None:
    ids = llama2.encode(["hello"], add_special_tokens=False)[0].ids
    decoder = StreamDecoder(llama2, Opening(stop_texts=["hello"], min_ids=len(ids)))
    decoded = decoder.add(ids, last=True)
    assert (decoded.text, decoded.stop) == ("hello", None)
