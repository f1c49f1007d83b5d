"""How long steps took: counted by a rank, carried by its heartbeats, shown by the front."""

from __future__ import annotations

import bisect

# Upper bounds of the histogram's buckets, in seconds; one more holds what is above.
BOUNDS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 20.0)


class StepTimes:
    """A histogram of the steps of one rank, since it started. Not locked: one thread counts."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.sum_s = 0.0

    def add(self, seconds: float) -> None:
        """Counts one step."""
        self.counts[bisect.bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += seconds
