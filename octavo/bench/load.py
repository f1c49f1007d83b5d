"""When requests are sent.

Closed loop: a number of clients, each with one request open at a time; a slow server slows them
down. Open loop: requests come when they come, however the server is; their times count from when
they were due, so that a client that falls behind hides nothing.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Iterator

from octavo.bench.doors import Door
from octavo.bench.sample import Sample
from octavo.bench.workload import Job


async def closed_loop(door: Door, jobs: Iterable[Job], *, concurrency: int) -> list[Sample]:
    """Runs all jobs, `concurrency` at a time; the samples in the order of their ends."""
    samples: list[Sample] = []
    left = iter(jobs)
    async with asyncio.TaskGroup() as clients:
        for _ in range(concurrency):
            clients.create_task(_client(door, left, samples))
    return samples


async def _client(door: Door, jobs: Iterator[Job], samples: list[Sample]) -> None:
    for job in jobs:
        samples.append(await door.generate(job))  # noqa: PERF401 - shared with other clients


async def open_loop(door: Door, jobs: Iterable[Job], arrivals: Iterable[float]) -> list[Sample]:
    """Sends a job at each of `arrivals` (seconds from now), until one of both is over; the samples
    in that order.
    """
    loop = asyncio.get_running_loop()
    start, pairs = loop.time(), zip(jobs, arrivals, strict=False)
    tasks: list[asyncio.Task[Sample]] = []
    async with asyncio.TaskGroup() as requests:
        for job, arrival in pairs:
            await asyncio.sleep(start + arrival - loop.time())
            tasks.append(requests.create_task(_sent(door, job, due_at=start + arrival)))
    return [task.result() for task in tasks]


async def _sent(door: Door, job: Job, *, due_at: float) -> Sample:
    sample = await door.generate(job)
    sample.due_at = due_at  # the loop's clock is time.monotonic()
    return sample


def poisson_arrivals(rate: float, seed: int = 0) -> Iterator[float]:
    """Times without end, `rate` a second on average, each gap independent of all others."""
    rng = random.Random(seed)  # noqa: S311 - a load, no secret
    now = 0.0
    while True:
        now += rng.expovariate(rate)
        yield now
