from __future__ import annotations

import pytest

from octavo.bench.sample import Sample
from octavo.bench.summary import Limits, percentiles, summarise, tokens_per_s
from octavo.bench.workload import Job

LIMITS = Limits(first_token_ms=500, inter_token_ms=100)


def sample(
    *arrivals: float, due_at: float = 0.0, error: str | None = None, cancelled: bool = False
) -> Sample:
    """An answer whose texts came at these times, one a token."""
    made = Sample(Job(number=0, prompt_ids=(1,), max_tokens=len(arrivals)))
    made.due_at, made.arrivals = due_at, list(arrivals)
    made.num_tokens = len(arrivals)
    made.ended_at = max([due_at, *arrivals])
    made.error, made.is_cancelled = error, cancelled
    return made


def test_percentiles_lie_between_neighbours() -> None:
    assert percentiles([0.001 * n for n in range(101)]) == {"p50": 50, "p90": 90, "p99": 99}
    assert percentiles([0.004, 0.002]) == {"p50": 3.0, "p90": 3.8, "p99": 3.98}
    assert percentiles([0.002]) == {"p50": 2.0, "p90": 2.0, "p99": 2.0}
    assert percentiles([]) is None


def test_figures_of_one_run() -> None:
    run = [sample(0.2, 0.3, 0.4), sample(1.4, 2.0, due_at=1.0)]
    figures = summarise([run], LIMITS)
    assert figures["tokens"] == 5
    assert figures["seconds"] == 2.0
    assert figures["tokens_per_s"] == 2.5
    assert figures["requests_per_s"] == 1.0
    assert figures["first_token_ms"]["p50"] == pytest.approx(300)
    assert figures["inter_token_ms"]["p50"] == pytest.approx(100)
    assert figures["latency_ms"]["p50"] == pytest.approx(700)
    assert figures["errors"] == {}


def test_runs_of_one_load_add_up_without_the_time_between_them() -> None:
    first, second = [sample(0.5, 1.0)], [sample(100.5, 101.0, due_at=100.0)]
    figures = summarise([first, second], LIMITS)
    assert (figures["requests"], figures["seconds"]) == (2, 2.0)
    assert figures["tokens_per_s"] == tokens_per_s(first) == 2.0


@pytest.mark.parametrize(
    ("made", "is_good"),
    [
        (sample(0.5, 0.6, 0.7), True),
        (sample(0.51, 0.6), False),  # the first token is late
        (sample(0.1, 0.15, 0.29), True),  # one gap is long, but not the mean
        (sample(0.1, 0.31), False),
        (sample(0.1), True),
        (sample(0.1, 0.2, error="WORKER_LOST"), False),
        (sample(0.1, 0.2, cancelled=True), False),
        (sample(), False),
    ],
)
def test_a_good_request_keeps_both_limits(made: Sample, is_good: bool) -> None:
    assert LIMITS.keeps(made) is is_good


def test_goodput_leaves_out_whom_the_client_cancelled() -> None:
    run = [sample(0.1, 0.2), sample(0.1, cancelled=True), sample(0.1, 1.0, error="WORKER_LOST")]
    figures = summarise([run], LIMITS)
    assert (figures["finished"], figures["cancelled"]) == (1, 1)
    assert figures["errors"] == {"WORKER_LOST": 1}
    assert figures["good_share"] == 0.5
    assert figures["good_requests_per_s"] == 1.0


def test_answers_that_come_whole_have_no_first_token() -> None:
    whole = sample(0.0, 0.0)
    whole.arrivals, whole.ended_at = [], 2.0
    figures = summarise([[whole]], LIMITS)
    assert figures["first_token_ms"] is None
    assert figures["good_share"] is None
    assert figures["tokens_per_s"] == 1.0
