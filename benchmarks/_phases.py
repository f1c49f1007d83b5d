"""The phases of a serving benchmark: only one process tree is busy in each.

A round of a closed loop is a phase of one door and a phase of the engine alone, right beside each
other and with the same requests: what else the machine does hits both, and their ratio says what
serving costs. A round in which others were busy is left out, where a quiet one is left.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from benchmarks._engine_process import EngineProcess, Order
from benchmarks._machine import Processes, Usage, measured, wait_until_quiet
from octavo.bench.doors import DOORS, Door
from octavo.bench.load import closed_loop, open_loop, poisson_arrivals
from octavo.bench.sample import Sample
from octavo.bench.summary import Limits, summarise, tokens_per_s
from octavo.bench.target import Target, vocabulary_size
from octavo.bench.workload import Workload
from octavo.rpc.channel import open_channel


@dataclass(frozen=True, kw_only=True, slots=True)
class EnginePhase:
    """What the engine alone made in one phase."""

    tokens_per_s: float
    usage: Usage


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """What clients saw in one phase, and what the engine alone made beside it."""

    samples: Sequence[Sample]
    usage: Usage
    engine: EnginePhase | None = None

    @property
    def ratio(self) -> float | None:
        """Tokens delivered for each token that the engine alone makes."""
        if self.engine is None:
            return None
        return tokens_per_s(self.samples) / self.engine.tokens_per_s

    @property
    def others_share(self) -> float:
        """The largest share of the machine that others took during its phases."""
        usages = [self.usage, self.engine.usage] if self.engine else [self.usage]
        return max(usage.others_share for usage in usages)


@dataclass(frozen=True, kw_only=True, slots=True)
class Quiet:
    """In a quiet phase others take at most `limit` of the machine; each phase waits a while."""

    limit: float
    patience_s: float


@dataclass(kw_only=True, slots=True)
class Stage:
    """A product, the engine alone, and how to measure them."""

    target: Target
    engine: EngineProcess
    processes: Processes  # ours, by role
    quiet: Quiet
    vocabulary_size: int = field(init=False)

    def __post_init__(self) -> None:
        self.vocabulary_size = asyncio.run(_vocabulary_size(self.target))

    def workload(self, max_tokens: int, cancelled_share: float = 0.0) -> Workload:
        """Requests for the model that is served."""
        return Workload(
            vocabulary_size=self.vocabulary_size,
            max_tokens=max_tokens,
            cancelled_share=cancelled_share,
        )

    def closed(
        self, doors: Sequence[str], concurrency: int, workload: Workload, num_jobs: int
    ) -> dict[str, Round]:
        """One round of a closed loop for each door.

        The order is door, engine, door; door, engine, door: every door stands beside the engine.
        """
        rounds: dict[str, Round] = {}
        for first in range(0, len(doors), 2):
            before, after = doors[first : first + 1], doors[first + 1 : first + 2]
            taken = {door: self._closed(door, concurrency, workload, num_jobs) for door in before}
            engine = self._engine_phase(concurrency, workload, num_jobs)
            taken |= {door: self._closed(door, concurrency, workload, num_jobs) for door in after}
            for door, (samples, usage) in taken.items():
                rounds[door] = Round(samples=samples, usage=usage, engine=engine)
        return rounds

    def open(self, door: str, rate: float, seconds: float, workload: Workload) -> Round:
        """One round of an open loop, `rate` requests a second."""
        times = itertools.takewhile(lambda at: at < seconds, poisson_arrivals(rate))
        arrivals = list(times) or [0.0]
        samples, usage = self._phase(
            door, lambda way_in: open_loop(way_in, workload.jobs(), arrivals)
        )
        return Round(samples=samples, usage=usage)

    def _closed(
        self, door: str, concurrency: int, workload: Workload, num_jobs: int
    ) -> tuple[list[Sample], Usage]:
        jobs = itertools.islice(workload.jobs(), num_jobs)
        return self._phase(door, lambda way_in: closed_loop(way_in, jobs, concurrency=concurrency))

    def _engine_phase(self, concurrency: int, workload: Workload, num_jobs: int) -> EnginePhase:
        order = Order(
            workload=workload,
            num_jobs=num_jobs,
            concurrency=concurrency,
            temperature=self.target.temperature,
        )
        self._wait()
        with measured(self.processes) as usage:
            answer = self.engine.run(order)
        return EnginePhase(tokens_per_s=answer["tokens_per_s"], usage=usage)

    def _phase(
        self, door: str, load: Callable[[Door], Awaitable[list[Sample]]]
    ) -> tuple[list[Sample], Usage]:
        async def run() -> tuple[list[Sample], Usage]:
            async with DOORS[door](self.target) as way_in:
                with measured(self.processes) as usage:
                    samples = await load(way_in)
            return samples, usage

        self._wait()
        return asyncio.run(run())

    def _wait(self) -> None:
        wait_until_quiet(self.processes, limit=self.quiet.limit, patience_s=self.quiet.patience_s)


def figures(rounds: Sequence[Round], limits: Limits, *, others_limit: float) -> dict[str, Any]:
    """What the quiet rounds of one load come to; where none was quiet, all of them.

    A round was quiet if others took at most the share `others_limit` of the machine.
    """
    quiet = [one for one in rounds if one.others_share <= others_limit]
    kept = quiet or rounds
    ratios = [one.ratio for one in kept if one.ratio is not None]
    rates = [one.engine.tokens_per_s for one in kept if one.engine is not None]
    return {
        "rounds": len(rounds),
        "quiet_rounds": len(quiet),
        "others_share": round(max(one.others_share for one in kept), 3),
        **summarise([one.samples for one in kept], limits),
        "engine_tokens_per_s": round(median(rates), 1) if rates else None,
        "delivered_to_engine": round(median(ratios), 3) if ratios else None,
        "cpu_s": _sum([one.usage.cpu_s for one in kept]),
    }


async def _vocabulary_size(target: Target) -> int:
    async with open_channel(target.grpc) as channel:
        return await vocabulary_size(channel)


def _sum(parts: Sequence[dict[str, float]]) -> dict[str, float]:
    """CPU seconds by role, over all parts."""
    return {role: round(sum(part[role] for part in parts), 2) for role in parts[0]}
