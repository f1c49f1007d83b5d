"""Three times as many requests as the product can finish: what is refused, how fast, what finishes.

    python -m benchmarks.overload --model FOLDER [--output benchmarks/results/overload.json]

Regime: `octavo serve` on this machine; prompts of 5 to 400 random ids, greedy, outputs of a fixed
length. In one run: calls on the idle product that are refused for what they ask; a closed loop of
32 clients, whose median latency times `--patience` is the deadline of everything; an open loop of
three times what it finished, with Poisson arrivals; and the closed loop again. The capacity is the
mean of the two closed loops, so that a machine that becomes slower or faster counts on both sides:
clients over mean latency (Little's law), times the share that kept the deadline. The open loop
counts from one deadline after its start until its last arrival. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, median
from typing import Any

import psutil

from benchmarks._machine import measured
from benchmarks._product import Product, running_product
from benchmarks._record import record
from octavo.bench.doors import DOORS
from octavo.bench.load import closed_loop, open_loop, poisson_arrivals
from octavo.bench.sample import Sample
from octavo.bench.summary import percentiles
from octavo.bench.target import Target, vocabulary_size
from octavo.bench.workload import Job, Workload
from octavo.rpc.channel import open_channel

CLOSED_CLIENTS = 32
LOOK_S = 0.1
# What is refused because of the load, and not for what it asks.
REFUSALS = {"QUEUE_FULL", "QUEUE_TOO_LONG", "GATEWAY_FULL"}
_WAITING = "octavo_worker_requests_waiting{"


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenLoop:
    """What came of an open loop: samples, times of time.monotonic(), the longest queue seen."""

    samples: Sequence[Sample]
    begun_at: float
    seconds: float
    longest_queue: int

    def finished_per_s(self, warm_up_s: float) -> float:
        """Requests that finished within their deadline, in the steady part of the loop."""
        begin, end = self.begun_at + warm_up_s, self.begun_at + self.seconds
        ends = [sample.ended_at for sample in self.samples if sample.is_finished]
        return sum(begin <= at < end for at in ends) / (end - begin)


class Load:
    """Requests for one product through one door."""

    def __init__(self, product: Product, door: str, workload: Workload) -> None:
        self._product = product
        self._door = door
        self._jobs = workload.jobs()
        self._no_id = workload.vocabulary_size
        self._target = Target(grpc=product.grpc, http=product.http)

    def set_deadline(self, deadline_s: float) -> None:
        """Every request has this deadline from now on."""
        self._target = replace(self._target, request_limit_s=deadline_s)

    async def refused_while_idle(self, num_calls: int) -> list[float]:
        """The seconds that calls take whose prompt holds an id that is none of the model's."""
        async with DOORS[self._door](self._target) as door:
            jobs = [next(self._jobs) for _ in range(num_calls)]
            wrong = [replace(job, prompt_ids=(*job.prompt_ids, self._no_id)) for job in jobs]
            samples = [await door.generate(job) for job in wrong]
        assert all(sample.error == "INVALID_FIELD" for sample in samples)
        return [sample.ended_at - sample.sent_at for sample in samples]

    async def closed(self, seconds: float) -> list[Sample]:
        """A closed loop whose last requests begin after this long."""
        async with DOORS[self._door](self._target) as door:
            jobs = self._jobs_until(time.monotonic() + seconds)
            return await closed_loop(door, jobs, concurrency=CLOSED_CLIENTS)

    async def open(self, rate: float, seconds: float) -> OpenLoop:
        """An open loop of `rate` requests a second."""
        arrivals = itertools.takewhile(lambda at: at < seconds, poisson_arrivals(rate))
        queue = _Queue(self._product.metrics)
        begun_at = time.monotonic()
        async with DOORS[self._door](self._target) as door, queue.watched():
            samples = await open_loop(door, self._jobs, arrivals)
        return OpenLoop(
            samples=samples, begun_at=begun_at, seconds=seconds, longest_queue=queue.longest
        )

    def _jobs_until(self, end_at: float) -> Iterator[Job]:
        while time.monotonic() < end_at:
            yield next(self._jobs)


class _Queue:
    """How many requests wait in the worker group, as its gateway's metrics say."""

    def __init__(self, metrics: str) -> None:
        self.longest = 0
        self._url = metrics

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        watching = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watching.cancel()

    async def _watch(self) -> None:
        while True:
            self.longest = max(self.longest, await asyncio.to_thread(self._length))
            await asyncio.sleep(LOOK_S)

    def _length(self) -> int:
        with urllib.request.urlopen(self._url, timeout=10) as answer:  # noqa: S310 - http, our own
            lines = answer.read().decode().splitlines()
        return sum(int(float(line.split()[1])) for line in lines if line.startswith(_WAITING))


async def run(product: Product, arguments: argparse.Namespace) -> dict[str, Any]:
    """All loops, one after the other; the figures."""
    async with open_channel(product.grpc) as channel:
        size = await vocabulary_size(channel)
    load = Load(
        product, arguments.door, Workload(vocabulary_size=size, max_tokens=arguments.max_tokens)
    )
    idle = percentiles(await load.refused_while_idle(100))
    _say(f"closed loop of {CLOSED_CLIENTS}")
    before = await load.closed(arguments.closed_s)
    latency_s = median(map(_latency_s, before))
    deadline_s = round(arguments.patience * latency_s, 3)
    rate = arguments.factor * _capacity(before, deadline_s)
    load.set_deadline(deadline_s)
    _say(f"open loop of {rate:.1f} requests a second, deadline {deadline_s:.1f} s")
    overload = await load.open(rate, arguments.open_s + deadline_s)
    _say(f"closed loop of {CLOSED_CLIENTS}")
    after = await load.closed(arguments.closed_s)
    closed = [_capacity(samples, deadline_s) for samples in (before, after)]
    capacity, finished = mean(closed), overload.finished_per_s(deadline_s)
    refusals = percentiles([_latency_s(one) for one in overload.samples if one.error in REFUSALS])
    return {
        "deadline_s": deadline_s,
        "closed_latency_s": round(latency_s, 3),
        "capacity_per_s": round(capacity, 3),
        "closed_per_s": [round(one, 3) for one in closed],
        "closed_errors": _errors([*before, *after]),
        "offered_per_s": round(rate, 3),
        "requests": len(overload.samples),
        "finished_in_time_per_s": round(finished, 3),
        "goodput_to_capacity": round(finished / capacity, 3),
        "errors": _errors(overload.samples),
        "longest_queue": overload.longest_queue,
        "idle_call_ms": idle,
        "refusal_ms": refusals,
        "refusal_p99_over_idle_ms": (
            round(refusals["p99"] - idle["p99"], 2) if refusals and idle else None
        ),
    }


def _latency_s(sample: Sample) -> float:
    return sample.ended_at - sample.sent_at


def _capacity(samples: Sequence[Sample], deadline_s: float) -> float:
    """Requests a second that a closed loop finishes within the deadline."""
    in_time = [one for one in samples if one.is_finished and _latency_s(one) <= deadline_s]
    share = len(in_time) / len(samples)
    return share * CLOSED_CLIENTS / mean(map(_latency_s, samples))


def _say(phase: str) -> None:
    print(phase, flush=True)


def _errors(samples: Sequence[Sample]) -> dict[str, int]:
    return dict(Counter(sample.error for sample in samples if sample.error is not None))


def main() -> None:
    """Runs everything and prints it."""
    arguments = _parser().parse_args()
    with running_product(arguments.model, f"--device={arguments.device}") as product:
        processes = {"client": [psutil.Process()], **product.processes()}
        with measured(processes) as usage:
            figures = asyncio.run(run(product, arguments))
    for name, value in figures.items():
        print(f"{name:>26}  {value}")
    record(
        "overload",
        arguments.model,
        arguments.output,
        door=arguments.door,
        max_tokens=arguments.max_tokens,
        factor=arguments.factor,
        seconds=arguments.open_s,
        **figures,
        cpu_s=usage.rounded(),
        others_share=round(usage.others_share, 3),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overload")
    add = parser.add_argument
    add("--model", type=Path, required=True, help="a checkpoint folder")
    add("--device", default="auto", help="cpu, cuda or auto")
    add("--door", choices=list(DOORS), default="stream")
    add("--max-tokens", type=int, default=64, help="of each answer")
    add("--factor", type=float, default=3.0, help="offered load, in capacities")
    add("--patience", type=float, default=3.0, help="the deadline, in latencies of the closed loop")
    add("--closed-s", type=float, default=30.0, help="of a closed loop")
    add("--open-s", type=float, default=60.0, help="of the overload")
    add("--output", type=Path, help="also write the result to this file")
    return parser


if __name__ == "__main__":
    main()
