"""Log probabilities are those of slow loops, with the same bits whatever row stands beside them."""

from __future__ import annotations

import math

import pytest
import torch

from services.worker.engine.logprobs import likeliest, token_logprobs
from services.worker.engine.step_result import TokenLogprob
from tests.services.worker.engine import sampling_oracle


def _logits(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 4


def _assert_close(found: TokenLogprob | None, expected: TokenLogprob) -> None:
    assert found is not None
    assert found.logprob == pytest.approx(expected.logprob, rel=1e-12)
    assert found.top_ids == expected.top_ids
    assert found.top_logprobs == pytest.approx(expected.top_logprobs, rel=1e-12)


@pytest.mark.parametrize("digits", [0, 1, 8])
def test_they_are_those_of_the_oracle(device: torch.device, digits: int) -> None:
    logits = _logits(40, 60).round(decimals=digits)  # few digits: many ties
    token_ids, nums_top = [7 * row % 60 for row in range(40)], [row % 21 for row in range(40)]
    found = token_logprobs(logits.to(device), token_ids, nums_top)
    for row, one in enumerate(found):
        _assert_close(
            one, sampling_oracle.logprob(logits[row].tolist(), token_ids[row], nums_top[row])
        )


def test_of_equal_logits_the_lowest_ids_come_first_and_zero_has_no_sign(
    device: torch.device,
) -> None:
    logits = torch.tensor(
        [[0.0, -0.0, 1.0, -1.0, -0.0, 1.0], [-3.0, -2.0, -2.5, -2.0, 5e-45, -9.0]]
    )
    assert likeliest(logits.to(device), 6).tolist() == [[2, 5, 0, 1, 4, 3], [4, 1, 3, 2, 0, 5]]


def test_no_more_than_there_are() -> None:
    (found,) = token_logprobs(_logits(1, 5), [2], [20])
    assert found is not None
    assert sorted(found.top_ids) == [0, 1, 2, 3, 4]


def test_all_together_are_certain() -> None:
    (found,) = token_logprobs(_logits(1, 20), [2], [20])
    assert found is not None
    assert math.fsum(map(math.exp, found.top_logprobs)) == pytest.approx(1, rel=1e-12)
    assert found.logprob == found.top_logprobs[found.top_ids.index(2)]


@pytest.mark.parametrize("num_tokens", [384, 1003, 49152])
def test_a_row_does_not_depend_on_its_batch(num_tokens: int) -> None:
    logits = _logits(35, num_tokens)
    ids, nums_top = [row * 11 for row in range(35)], [row % 6 for row in range(35)]
    together = token_logprobs(logits, ids, nums_top)
    for first, last in [(0, 1), (3, 4), (5, 12), (1, 35)]:
        rows = slice(first, last)
        assert token_logprobs(logits[rows], ids[rows], nums_top[rows]) == together[rows]
    assert token_logprobs(logits.flip(0), ids[::-1], nums_top[::-1]) == together[::-1]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_row_that_is_not_finite_has_none_and_disturbs_no_other(bad: float) -> None:
    logits = _logits(20, 100)
    expected = token_logprobs(logits, [5] * 20, [3] * 20)
    logits[17, 99] = bad
    expected[17] = None
    assert token_logprobs(logits, [5] * 20, [3] * 20) == expected


def test_extreme_logits_give_what_float32_can_hold() -> None:
    (found,) = token_logprobs(torch.tensor([[3e38, -3e38]]), [1], [2])
    assert found is not None
    assert found.logprob == torch.finfo(torch.float32).min
    assert found.top_logprobs == (0.0, torch.finfo(torch.float32).min)
