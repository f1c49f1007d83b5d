"""Which rounds count, and what they come to."""

from __future__ import annotations

import pytest

from benchmarks._machine import Usage
from benchmarks._phases import EnginePhase, Round, figures
from octavo.bench.sample import Sample
from octavo.bench.summary import Limits
from octavo.bench.workload import Job

LIMITS = Limits(first_token_ms=1000, inter_token_ms=1000)


def usage(others_share: float) -> Usage:
    return Usage(seconds=2.0, cpu_s={"rank": 1.5, "gateway": 0.25}, others_share=others_share)


def one_round(
    tokens: int, *, engine: float | None = 10.0, others: float = 0.0, beside: float = 0.0
) -> Round:
    """A request of 2 s; `others` took that share meanwhile, `beside` while the engine ran."""
    sample = Sample(Job(number=0, prompt_ids=(1,), max_tokens=tokens))
    sample.due_at, sample.ended_at, sample.num_tokens = 0.0, 2.0, tokens
    phase = None if engine is None else EnginePhase(tokens_per_s=engine, usage=usage(beside))
    return Round(samples=[sample], usage=usage(others), engine=phase)


def test_a_ratio_is_between_phases_of_one_round() -> None:
    rounds = [one_round(18), one_round(8, engine=5.0), one_round(19)]
    found = figures(rounds, LIMITS, others_limit=0.1)
    assert found["delivered_to_engine"] == pytest.approx(0.9)  # of 0.9, 0.8 and 0.95
    assert found["engine_tokens_per_s"] == 10.0
    assert found["tokens_per_s"] == pytest.approx(45 / 6)
    assert found["cpu_s"] == {"rank": 4.5, "gateway": 0.75}


@pytest.mark.parametrize("noise", [{"others": 0.5}, {"beside": 0.5}])
def test_a_round_beside_busy_processes_is_left_out(noise: dict[str, float]) -> None:
    found = figures([one_round(2, **noise), one_round(18)], LIMITS, others_limit=0.1)
    assert (found["rounds"], found["quiet_rounds"]) == (2, 1)
    assert found["tokens"] == 18
    assert found["delivered_to_engine"] == 0.9
    assert found["others_share"] == 0.0


def test_where_none_was_quiet_all_count_and_it_says_so() -> None:
    found = figures(
        [one_round(16, others=0.4), one_round(18, others=0.3)], LIMITS, others_limit=0.1
    )
    assert (found["quiet_rounds"], found["tokens"], found["others_share"]) == (0, 34, 0.4)


def test_an_open_loop_has_no_engine_beside_it() -> None:
    found = figures([one_round(16, engine=None)], LIMITS, others_limit=0.1)
    assert found["delivered_to_engine"] is found["engine_tokens_per_s"] is None
