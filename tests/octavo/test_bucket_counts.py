"""octavo.bucket_counts: a value counts where its first bound is that is not below it."""

from __future__ import annotations

from octavo.bucket_counts import BucketCounts
from octavo.metrics import buckets


def test_each_value_is_in_one_bucket_and_in_the_sum() -> None:
    times = BucketCounts((1.0, 2.5))
    for value in (0.5, 1.0, 1.1, 9.0):
        times.add(value)
    assert (times.counts, times.sum) == ([2, 1, 1], 11.6)
    assert buckets(times.bounds, times.counts) == [("1.0", 2), ("2.5", 3), ("+Inf", 4)]
