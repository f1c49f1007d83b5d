"""Tokens are drawn as a slow and obvious loop draws them, whatever row stands beside them."""

from __future__ import annotations

import dataclasses
import math
from array import array

import pytest
import torch

from services.worker.engine import sampling
from services.worker.engine.request import LogitRules, Sampling, token_array
from services.worker.engine.sampling import cut, find_cut, probabilities, rising, uniform_of
from services.worker.engine.step_plan import Draw, History
from services.worker.engine.step_result import NotDrawn
from services.worker.kernels.reference import ReferenceKernels
from tests.services.worker.engine import sampling_oracle

_CPU = torch.device("cpu")


# What was seen before each draw of 12 tokens, and rules that it concerns.
_HISTORY = History(token_ids=token_array([1, 4, 1, 5, 5, 8, 1]), num_prompt_tokens=2)
_PENALTIES = LogitRules(repetition_penalty=1.3, frequency_penalty=0.4, presence_penalty=-0.3)
_MASKS = LogitRules(
    repetition_penalty=0.8,
    biased_ids=token_array([0, 3, 4]),
    biases=array("d", [1.5, -1.0, 3.0]),
    allowed_ids=token_array([0, 2, 3, 4, 5, 7, 8, 9]),
    bad_words=(token_array([8, 1, 9]), token_array([2])),
    no_repeat_ngram=2,
)


def _draws(sampling: Sampling, count: int) -> list[Draw]:
    return [Draw(sampling=sampling, position=position) for position in range(count)]


def sample(logits: torch.Tensor, draws: list[Draw]) -> list[int | NotDrawn]:
    argmax = ReferenceKernels(logits.device, torch.float32).argmax(logits)
    return sampling.sample(logits, draws, argmax.tolist())


def _logits(*shape: int, seed: int = 0, spread: float = 3.0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * spread


def test_greedy_takes_the_lowest_of_equal_ids(device: torch.device) -> None:
    logits = torch.full((3, 5000), -1.0)
    logits[0, [4999, 17, 2500]] = 2.0
    logits[1, :] = 0.0
    logits[2, 4999] = 0.5
    assert sample(logits.to(device), _draws(Sampling(temperature=0.0), 3)) == [17, 0, 4999]


@pytest.mark.parametrize("temperature", [0.3, 1.0, 1.7])
@pytest.mark.parametrize("top_k", [0, 1, 5, 1000])
@pytest.mark.parametrize("top_p", [0.0, 0.4, 0.95, 1.0])
def test_tokens_are_those_of_the_oracle(
    device: torch.device, temperature: float, top_k: int, top_p: float
) -> None:
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, seed=99)
    logits = _logits(40, 60)
    draws = _draws(sampling, 40)
    expected = [
        sampling_oracle.token(row, draw) for row, draw in zip(logits.tolist(), draws, strict=True)
    ]
    assert sample(logits.to(device), draws) == expected


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.3])
@pytest.mark.parametrize("min_p", [0.0, 0.13, 0.6, 1.0])
@pytest.mark.parametrize("rules", [None, _PENALTIES, _MASKS], ids=["none", "penalties", "masks"])
def test_tokens_with_rules_are_those_of_the_oracle(
    device: torch.device, temperature: float, min_p: float, rules: LogitRules | None
) -> None:
    sampling = Sampling(temperature=temperature, top_p=0.93, min_p=min_p, seed=7, rules=rules)
    logits = _logits(40, 12)
    draws = [
        dataclasses.replace(
            draw, history=_HISTORY, forbidden_ids=token_array([3, 11]) if row % 2 else None
        )
        for row, draw in enumerate(_draws(sampling, 40))
    ]
    expected = [
        sampling_oracle.token(row, draw) for row, draw in zip(logits.tolist(), draws, strict=True)
    ]
    assert sample(logits.to(device), draws) == expected


def test_a_row_that_its_rules_leave_nothing_is_seen_and_disturbs_no_other(
    device: torch.device,
) -> None:
    logits, draws = _logits(15, 12).to(device), _mixed_draws(15)
    expected = sample(logits, draws)
    everything = token_array(range(12))
    for row in (1, 6, 14):
        draws[row] = dataclasses.replace(draws[row], forbidden_ids=everything)
        expected[row] = NotDrawn.NOTHING_ALLOWED
    assert sample(logits, draws) == expected


def test_min_p_keeps_what_is_likely_enough_and_always_the_likeliest() -> None:
    logits = torch.tensor([0.5, 0.25, 0.125, 0.125]).log().expand(400, 4)

    def drawn(min_p: float) -> set[object]:
        return set(sample(logits, _draws(Sampling(min_p=min_p, seed=5), 400)))

    assert drawn(0.2) == {0, 1, 2, 3}
    assert drawn(0.4) == {0, 1}
    assert drawn(1.0) == {0}


def test_top_p_keeps_the_token_that_reaches_it() -> None:
    probs = torch.tensor([[0.1, 0.5, 0.15, 0.25]], dtype=torch.float64)

    def kept(top_p: float) -> int:
        return int(find_cut(probs, torch.tensor([0]), torch.tensor([top_p]).double())[0])

    assert [kept(0.0), kept(0.3), kept(0.5), kept(0.51), kept(0.75), kept(0.8)] == [
        1,
        1,
        1,
        2,
        2,
        3,
    ]


def test_top_p_counts_shares_of_what_top_k_left() -> None:
    probs = torch.tensor([[0.4, 0.2, 0.2, 0.2]], dtype=torch.float64)
    num_kept, _ = find_cut(probs, torch.tensor([2]), torch.tensor([0.66]).double())
    assert num_kept.tolist() == [1]  # 0.4 of 0.6 reaches 0.66; 0.4 of 1 would not


def test_of_equal_probabilities_the_lowest_ids_stay() -> None:
    probs = torch.tensor([[0.1, 0.2, 0.2, 0.2, 0.3]], dtype=torch.float64)
    num_kept, least = find_cut(probs, torch.tensor([3]), torch.tensor([1.0]).double())
    assert cut(probs, num_kept, least).tolist() == [[0.0, 0.2, 0.2, 0.0, 0.3]]


@pytest.mark.parametrize("depth", [1, 2, 7, 64, 300])
def test_the_depth_of_the_first_ranking_changes_nothing(depth: int) -> None:
    probs = probabilities(_logits(30, 300), torch.full((30,), 2.0).double())
    top_k = torch.tensor([0, 1, 6, 100, 299, 500] * 5)
    top_p = torch.tensor([0.05, 0.5, 0.99, 1.0, 0.999999] * 6).double()
    expected = find_cut(probs, top_k, top_p, depth=300)
    found = find_cut(probs, top_k, top_p, depth=depth)
    assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])


def _mixed_draws(count: int) -> list[Draw]:
    kinds = [
        Sampling(temperature=0.0),
        Sampling(temperature=1.0, seed=-5),
        Sampling(temperature=0.7, top_k=40, seed=1 << 63),
        Sampling(temperature=1.3, top_p=0.9, seed=3),
        Sampling(temperature=2.5, top_p=0.99, top_k=2000, seed=3),
        Sampling(temperature=1.1, min_p=0.3, seed=7),
        Sampling(temperature=0.0, rules=_PENALTIES),
        Sampling(temperature=1.4, top_p=0.9, seed=8, rules=_MASKS),
    ]
    return [
        Draw(sampling=kinds[row % 8], position=row * 31, history=_HISTORY) for row in range(count)
    ]


@pytest.mark.parametrize("num_tokens", [50, 1003, 49152])
def test_a_row_does_not_depend_on_its_batch(num_tokens: int) -> None:
    logits, draws = _logits(24, num_tokens), _mixed_draws(24)
    together = sample(logits, draws)
    alone = [sample(logits[row : row + 1], draws[row : row + 1])[0] for row in range(24)]
    assert alone == together
    backwards = sample(logits.flip(0), draws[::-1])
    assert backwards[::-1] == together


@pytest.mark.parametrize("num_tokens", [384, 1003, 49152])
def test_probabilities_and_their_sums_have_the_same_bits_in_any_batch(num_tokens: int) -> None:
    logits, temperature = _logits(17, num_tokens), torch.full((17,), 0.8).double()
    together = probabilities(logits, temperature)
    for first, last in [(0, 1), (3, 4), (5, 12), (1, 17)]:
        part = probabilities(logits[first:last], temperature[first:last])
        assert torch.equal(part, together[first:last])
        assert torch.equal(part.cumsum(-1), together.cumsum(-1)[first:last])


def test_sampling_leaves_the_logits_alone() -> None:
    logits = _logits(5, 100)
    before = logits.clone()
    sample(logits, _mixed_draws(5))
    assert torch.equal(logits, before)


@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e-6])
@pytest.mark.parametrize("top_p", [0.5, 1.0])
def test_a_tiny_temperature_is_as_good_as_greedy(
    device: torch.device, temperature: float, top_p: float
) -> None:
    logits = _logits(8, 100).to(device)
    sampling = Sampling(temperature=temperature, top_p=top_p, seed=4)
    assert sample(logits, _draws(sampling, 8)) == logits.argmax(-1).tolist()


def test_sums_that_a_device_rounded_rise_at_likely_tokens_alone() -> None:
    probs = torch.tensor([[0.0, 0.25, 0.0, 0.25, 0.25, 0.0, 0.25]])
    rounded = torch.tensor([[0.01, 0.25, 0.26, 0.5, 0.49, 0.51, 1.0]])
    assert rising(rounded, probs).tolist() == [[0.0, 0.25, 0.25, 0.5, 0.5, 0.5, 1.0]]


def test_a_huge_temperature_reaches_every_token() -> None:
    logits = torch.tensor([[50.0, 0.0, -50.0]]).expand(200, 3)
    drawn = sample(logits, _draws(Sampling(temperature=1e300, seed=4), 200))
    assert set(drawn) == {0, 1, 2}


def test_extreme_but_finite_logits_are_drawn_from(device: torch.device) -> None:
    logits = torch.tensor([[3e38, -3e38, 3e38]], device=device)
    assert sample(logits, [Draw(sampling=Sampling(seed=1), position=0)])[0] in (0, 2)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_row_that_is_not_finite_is_seen_and_disturbs_no_other(
    device: torch.device, bad: float
) -> None:
    logits, draws = _logits(15, 2000).to(device), _mixed_draws(15)
    expected = sample(logits, draws)
    logits[4:9, 77] = bad
    found = sample(logits, draws)
    assert found == expected[:4] + [NotDrawn.NOT_FINITE] * 5 + expected[9:]


def test_seed_output_index_and_position_each_change_the_number() -> None:
    draws = [
        Draw(sampling=Sampling(seed=seed), output_index=output_index, position=position)
        for seed in (0, 1, -1, 1 << 32, (1 << 63) - 1)
        for output_index in (0, 1)
        for position in (0, 1, 4096)
    ]
    assert len(set(uniform_of(draws, _CPU).tolist())) == len(draws)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(seed=11),
        Sampling(temperature=0.6, seed=12),
        Sampling(top_k=4, seed=13),
        Sampling(temperature=2.0, top_p=0.5, seed=14),
        Sampling(temperature=0.9, top_k=4, top_p=0.75, seed=15),
        Sampling(temperature=1.5, min_p=0.2, seed=16),
        Sampling(temperature=0.8, top_k=9, top_p=0.9, min_p=0.05, seed=17, rules=_PENALTIES),
        Sampling(temperature=1.1, top_p=0.95, seed=18, rules=_MASKS),
    ],
)
def test_twenty_thousand_draws_follow_the_distribution(
    device: torch.device, sampling: Sampling
) -> None:
    logits = _logits(12, seed=3, spread=1.0).to(device)
    num_draws = 20_000
    draws = [dataclasses.replace(draw, history=_HISTORY) for draw in _draws(sampling, num_draws)]
    drawn = sample(logits.expand(num_draws, 12), draws)
    counts = [drawn.count(id) for id in range(12)]
    ruled = sampling_oracle.ruled_logits(logits.tolist(), draws[0])
    expected = [num_draws * prob for prob in sampling_oracle.kept_probs(ruled, sampling)]
    assert all(count == 0 for count, mean in zip(counts, expected, strict=True) if mean == 0)
    terms = [
        (count - mean) ** 2 / mean for count, mean in zip(counts, expected, strict=True) if mean
    ]
    degrees = len(terms) - 1
    # Wilson and Hilferty's approximation of the quantile at p = 0.001.
    limit = degrees * (1 - 2 / (9 * degrees) + 3.0902 * math.sqrt(2 / (9 * degrees))) ** 3
    assert sum(terms) < limit


def test_a_sequence_of_positions_follows_the_distribution_for_many_seeds() -> None:
    probs = torch.tensor([0.5, 0.25, 0.125, 0.125])
    draws = [
        Draw(sampling=Sampling(seed=seed), position=position)
        for seed in range(1000)
        for position in range(20)
    ]
    drawn = sample(probs.log().expand(20_000, 4), draws)
    counts = torch.bincount(torch.tensor(drawn), minlength=4)
    assert ((counts - 20_000 * probs) ** 2 / (20_000 * probs)).sum() < 16.27  # 3 degrees, p = 0.001
