"""What the samples of a load come to.

First token: from when a request was due to its first text. Inter-token: between one text and the
next, every gap of every request on its own, which is what a reader waits. Goodput: requests whose
first token and whose mean time per later token both keep the limits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from octavo.bench.sample import Sample

PERCENTILES = (50, 90, 99)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What a request must keep to count as good."""

    first_token_ms: float
    inter_token_ms: float

    def keeps(self, sample: Sample) -> bool:
        """Whether the request finished within the limits."""
        if not sample.is_finished or sample.first_token_s is None:
            return False
        in_time = 1e3 * sample.first_token_s <= self.first_token_ms
        return in_time and 1e3 * (sample.token_s or 0.0) <= self.inter_token_ms


def summarise(runs: Sequence[Sequence[Sample]], limits: Limits) -> dict[str, Any]:
    """The figures of one load that ran once or several times, one after the other.

    Rates are over the time from the first request of a run to its last end. Percentiles are over
    all runs together, and None where nothing was measured.
    """
    samples = [sample for run in runs for sample in run]
    seconds = sum(seconds_of(run) for run in runs)
    finished = [sample for sample in samples if sample.is_finished]
    num_cancelled = sum(sample.is_cancelled for sample in samples)
    num_good = sum(limits.keeps(sample) for sample in samples)
    num_tokens = sum(sample.num_tokens for sample in samples)
    firsts = [s.first_token_s for s in samples if s.first_token_s is not None]
    return {
        "requests": len(samples),
        "finished": len(finished),
        "cancelled": num_cancelled,
        "errors": dict(Counter(s.error for s in samples if s.error is not None)),
        "seconds": round(seconds, 3),
        "tokens": num_tokens,
        "tokens_per_s": round(num_tokens / seconds, 1),
        "requests_per_s": round(len(finished) / seconds, 3),
        "first_token_ms": percentiles(firsts),
        "inter_token_ms": percentiles([gap for s in samples for gap in s.gaps_s]),
        "latency_ms": percentiles([s.ended_at - s.due_at for s in finished]),
        "good_requests_per_s": round(num_good / seconds, 3) if firsts else None,
        "good_share": round(num_good / max(1, len(samples) - num_cancelled), 3) if firsts else None,
    }


def seconds_of(run: Sequence[Sample]) -> float:
    """From the first request of a run to its last end."""
    return max(sample.ended_at for sample in run) - min(sample.due_at for sample in run)


def tokens_per_s(run: Sequence[Sample]) -> float:
    """Tokens that the clients of one run got, in a second."""
    return sum(sample.num_tokens for sample in run) / seconds_of(run)


def percentiles(seconds: Sequence[float]) -> dict[str, float] | None:
    """Milliseconds by name (p50, p90, p99), linear between neighbours; None for nothing."""
    if not seconds:
        return None
    ordered = sorted(seconds)
    return {f"p{percent}": round(1e3 * _at(ordered, percent / 100), 2) for percent in PERCENTILES}


def _at(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])
