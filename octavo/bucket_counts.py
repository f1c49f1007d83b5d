"""A histogram that is counted often and read seldom: one bisection a value, no lock, no labels."""

from __future__ import annotations

import bisect
from collections.abc import Sequence


class BucketCounts:
    """`counts` has one number a bucket: up to each of `bounds`, and one for what is above them all.

    One thread counts; others may read, and find the last value or not.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Counts one value."""
        self.counts[bisect.bisect_left(self.bounds, value)] += 1
        self.sum += value
