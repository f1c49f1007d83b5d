"""Each rule does to a row of logits what slow loops do, and nothing to the other rows."""

from __future__ import annotations

import math
from array import array
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from services.worker.engine.logit_rules import apply_rules
from services.worker.engine.request import LogitRules, Sampling, token_array
from services.worker.engine.step_plan import Draw, History
from tests.services.worker.engine import sampling_oracle

NUM_TOKENS = 9  # so few that runs repeat and words come together
_IDS = st.integers(0, NUM_TOKENS - 1)
_ID_LISTS = st.lists(_IDS, max_size=12)
_WORDS = st.lists(st.lists(_IDS, min_size=1, max_size=4).map(token_array), max_size=4).map(tuple)


def history(prompt: list[int], generated: list[int]) -> History:
    return History(token_ids=token_array(prompt + generated), num_prompt_tokens=len(prompt))


def draw(seen: History | None = None, forbidden: list[int] | None = None, **rules: Any) -> Draw:
    return Draw(
        sampling=Sampling(rules=LogitRules(**rules)),
        position=0,
        history=seen,
        forbidden_ids=None if forbidden is None else token_array(forbidden),
    )


def ruled(logits: list[float], one: Draw) -> list[float]:
    row = torch.tensor([logits], dtype=torch.float64)
    apply_rules(row, [one])
    return list(row[0].tolist())


@st.composite
def _draws(make: st.DrawFn) -> Draw:
    bias = make(st.dictionaries(_IDS, st.floats(-100, 100), max_size=4))
    return draw(
        history(make(st.lists(_IDS, min_size=1, max_size=12)), make(_ID_LISTS)),
        make(st.none() | st.lists(_IDS, max_size=3)),
        repetition_penalty=make(st.just(1.0) | st.floats(0.01, 10)),
        frequency_penalty=make(st.just(0.0) | st.floats(-2, 2)),
        presence_penalty=make(st.just(0.0) | st.floats(-2, 2)),
        biased_ids=token_array(bias),
        biases=array("d", bias.values()),
        allowed_ids=token_array(make(st.just([]) | st.lists(_IDS, max_size=8))),
        bad_words=make(_WORDS),
        no_repeat_ngram=make(st.integers(0, 5)),
    )


_LOGITS = st.lists(st.floats(-50, 50, width=32), min_size=NUM_TOKENS, max_size=NUM_TOKENS)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(rows=st.lists(st.tuples(_LOGITS, _draws()), min_size=1, max_size=3))
def test_rows_become_what_slow_loops_make_of_them(
    device: torch.device, rows: list[tuple[list[float], Draw]]
) -> None:
    logits = torch.tensor([row for row, _ in rows], dtype=torch.float64, device=device)
    apply_rules(logits, [one for _, one in rows])
    for found, (row, one) in zip(logits.tolist(), rows, strict=True):
        assert found == pytest.approx(sampling_oracle.ruled_logits(row, one), rel=1e-9, abs=1e-9)


def test_repetition_counts_prompt_and_output_and_moves_towards_less_likely() -> None:
    logits = [2.0, -2.0, 3.0, 0.0]
    seen = history([0, 0], [1])
    assert ruled(logits, draw(seen, repetition_penalty=2.0)) == [1.0, -4.0, 3.0, 0.0]


def test_frequency_and_presence_count_the_output_alone() -> None:
    seen = history([0, 3], [1, 1, 2])
    assert ruled([5.0] * 4, draw(seen, frequency_penalty=0.5)) == [5.0, 4.0, 4.5, 5.0]
    assert ruled([5.0] * 4, draw(seen, presence_penalty=-0.5)) == [5.0, 5.5, 5.5, 5.0]


def test_no_bias_brings_back_what_is_forbidden() -> None:
    bias: dict[str, Any] = {
        "biased_ids": token_array([0, 1, 2]),
        "biases": array("d", [100.0, 100.0, 50.0]),
    }
    masks: list[tuple[History | None, dict[str, Any]]] = [
        (None, {"allowed_ids": token_array([2, 3])}),
        (history([3], []), {"bad_words": (token_array([0]), token_array([3, 1]))}),
        (history([3, 0, 3, 1, 3], []), {"no_repeat_ngram": 2}),
    ]
    for seen, mask in masks:
        assert ruled([0.0] * 4, draw(seen, **mask, **bias)) == [-math.inf, -math.inf, 50.0, 0.0]
    assert ruled([0.0] * 4, draw(None, [0, 1], **bias)) == [-math.inf, -math.inf, 50.0, 0.0]


def test_a_bad_word_is_forbidden_at_its_last_id_only() -> None:
    word = (token_array([1, 2, 3]),)
    assert ruled([0.0] * 4, draw(history([0, 1], []), bad_words=word)) == [0.0] * 4
    assert ruled([0.0] * 4, draw(history([2], []), bad_words=word)) == [0.0] * 4
    assert ruled([0.0] * 4, draw(history([1], [2]), bad_words=word))[3] == -math.inf


def test_a_run_of_one_forbids_whatever_was_seen() -> None:
    expected = [-math.inf, 0.0, -math.inf, 0.0]
    assert ruled([0.0] * 4, draw(history([0], [2, 2]), no_repeat_ngram=1)) == expected


@pytest.mark.parametrize("penalty", [5e-324, 1e-300])
def test_a_tiny_repetition_penalty_makes_no_infinity(penalty: float) -> None:
    found = ruled([3e38, -3e38, 0.0, 1.0], draw(history([0, 1, 2], []), repetition_penalty=penalty))
    assert all(map(math.isfinite, found))
    assert found.index(max(found)) == 0


def test_the_rules_leave_history_and_lists_as_they_are() -> None:
    seen = history([0, 1], [2])
    allowed = token_array([0, 1])
    ruled([0.0] * 4, draw(seen, repetition_penalty=2.0, allowed_ids=allowed, no_repeat_ngram=1))
    assert (list(seen.token_ids), list(allowed)) == ([0, 1, 2], [0, 1])
