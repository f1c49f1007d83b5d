"""Executions, one after the other; what reaches new code joins the corpus."""

from __future__ import annotations

import json
import random
import resource
import sys
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fuzzing.covered import Covered
from tests.fuzzing.execution import HangError, execute
from tests.fuzzing.mutations import mutated
from tests.fuzzing.seeds import Case, load_seeds

_WARM_UP = 2_000  # executions, after which memory should have stopped growing
_REPORT_S = 30.0
_LONGEST_LINEAGE = 6  # changes of changes: more is noise


@dataclass(frozen=True)
class Lineage:
    """A case by its making: a seed, and the numbers of the changes made to it."""

    seed: str
    numbers: tuple[int, ...] = ()

    def child(self, number: int) -> Lineage:
        return Lineage(self.seed, (*self.numbers, number))


class Campaign:
    """Finds its seeds valid, then changes them."""

    def __init__(self, folder: Path, covered: Covered, rng: random.Random) -> None:
        (folder / "seeds").mkdir(parents=True)
        self._seeds = load_seeds(folder / "seeds")
        self._folder, self._covered, self._rng = folder / "case", covered, rng
        self._arcs: set[tuple[str, int, int]] = set()
        self.corpus: list[Lineage] = []
        self.findings: list[dict[str, Any]] = []
        self.num_executions = self.num_loaded = self.num_refused = 0
        self._slowest_s = self._seconds = 0.0
        self._warm_kib: int | None = None
        for name in self._seeds:
            message = self._execute(Lineage(name))
            assert message is None, f"the seed {name} is refused: {message}"

    def replay(self, entries: Iterable[list[Any]]) -> None:
        """The corpus of before."""
        for seed, *numbers in entries:
            self._execute(Lineage(seed, tuple(numbers)))

    def run(self, seconds: float) -> None:
        """Executes until the time is up."""
        self._seconds = seconds
        end_at, report_at = time.monotonic() + seconds, 0.0
        while time.monotonic() < end_at:
            self.step()
            if self._warm_kib is None and self.num_executions >= _WARM_UP:
                self._warm_kib = _peak_kib()
            if time.monotonic() > report_at:
                report_at = time.monotonic() + _REPORT_S
                print(self.status(), file=sys.stderr)

    def step(self) -> None:
        """One execution: a case of the corpus, or a seed, with new changes."""
        parent = self._rng.choice(self.corpus)
        if len(parent.numbers) >= _LONGEST_LINEAGE or self._rng.random() < 0.3:
            parent = Lineage(self._rng.choice(tuple(self._seeds)))
        self._execute(parent.child(self._rng.randrange(2**31)))

    def status(self) -> str:
        return (
            f"{self.num_executions} executions, {self.num_loaded} loaded, {self.num_refused}"
            f" refused, {len(self.findings)} findings, corpus {len(self.corpus)},"
            f" {len(self._arcs)} branches"
        )

    def summary(self) -> dict[str, Any]:
        """What the campaign came to; memory is the peak after the warm-up against that before."""
        warm_kib = self._warm_kib or _peak_kib()
        return {
            "seconds": self._seconds,
            "executions": self.num_executions,
            "loaded": self.num_loaded,
            "refused": self.num_refused,
            "findings": len(self.findings),
            "corpus": len(self.corpus),
            "peak_memory_growth_mib": round((_peak_kib() - warm_kib) / 1024, 1),
            "slowest_ms": round(self._slowest_s * 1000, 1),
        }

    def corpus_as_json(self) -> str:
        """A line each, without the seeds themselves."""
        lines = [
            json.dumps([lineage.seed, *lineage.numbers])
            for lineage in self.corpus
            if lineage.numbers
        ]
        return "[\n" + ",\n".join(lines) + "\n]\n"

    def _execute(self, lineage: Lineage) -> str | None:
        self.num_executions += 1
        message, start = None, time.monotonic()
        try:
            message = execute(self._case(lineage), self._folder)
            self.num_loaded += message is None
            self.num_refused += message is not None
        except (Exception, HangError) as error:  # noqa: BLE001 - whatever it is, it is a finding
            self.findings.append(
                {
                    "case": [lineage.seed, *lineage.numbers],
                    "error": repr(error)[:500],
                    "traceback": traceback.format_exc()[-3000:],
                }
            )
        self._slowest_s = max(self._slowest_s, time.monotonic() - start)
        arcs = self._covered.arcs()
        if not arcs <= self._arcs:
            self._arcs |= arcs
            self.corpus.append(lineage)
        return message

    def _case(self, lineage: Lineage) -> Case:
        case = self._seeds[lineage.seed].copy()
        for number in lineage.numbers:
            case = mutated(case, number)
        return case


def _peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
