from __future__ import annotations

import asyncio
import itertools

import pytest

from octavo.bench.load import closed_loop, open_loop, poisson_arrivals
from octavo.bench.sample import Sample
from octavo.bench.workload import Job, Workload

JOBS = list(itertools.islice(Workload(vocabulary_size=9, max_tokens=4).jobs(), 12))


class FakeDoor:
    """Counts how many requests are open; each ends once `together` of them have been."""

    def __init__(self, together: int) -> None:
        self.most = self._open = 0
        self._together = together
        self._all_there = asyncio.Event()

    async def generate(self, job: Job) -> Sample:
        sample = Sample(job)
        self._open += 1
        self.most = max(self.most, self._open)
        if self._open >= self._together:
            self._all_there.set()
        await self._all_there.wait()
        await asyncio.sleep(0)
        self._open -= 1
        sample.take_usage(job.max_tokens)
        return sample.end()


async def test_a_closed_loop_runs_every_job_with_so_many_clients() -> None:
    door = FakeDoor(together=4)
    samples = await closed_loop(door, JOBS, concurrency=4)
    assert sorted(sample.job.number for sample in samples) == list(range(12))
    assert door.most == 4


async def test_an_open_loop_waits_for_no_answer() -> None:
    door = FakeDoor(together=12)
    samples = await open_loop(door, JOBS, [0.0] * 12)
    assert [sample.job.number for sample in samples] == list(range(12))
    assert door.most == 12


async def test_an_open_loop_counts_from_when_a_request_was_due() -> None:
    arrivals = [0.0, 0.02, 0.03]
    samples = await open_loop(FakeDoor(together=1), JOBS, arrivals)
    due = [sample.due_at - samples[0].due_at for sample in samples]
    assert due == pytest.approx(arrivals)
    assert all(sample.sent_at >= sample.due_at for sample in samples)


def test_arrivals_are_random_and_as_many_as_the_rate_says() -> None:
    def first(seed: int) -> list[float]:
        return list(itertools.islice(poisson_arrivals(50.0, seed), 5_000))

    arrivals = first(0)
    assert arrivals == first(0) != first(1)
    assert arrivals == sorted(arrivals)
    assert arrivals[0] > 0
    assert 95 < arrivals[-1] < 105  # 100 s, standard deviation 1.4
    gaps = [later - earlier for earlier, later in itertools.pairwise(arrivals)]
    mean = sum(gaps) / len(gaps)
    variance = sum((gap - mean) ** 2 for gap in gaps) / len(gaps)
    assert variance == pytest.approx(mean**2, rel=0.1)  # exponential
