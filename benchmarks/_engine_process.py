"""Starts the engine alone beside the product, and gives it orders."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from octavo.bench.workload import Workload


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """A closed loop over the first `num_jobs` of a workload, `concurrency` at a time."""

    workload: Workload
    num_jobs: int
    concurrency: int
    temperature: float

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Order:
        """Reads what `to_json` wrote."""
        values = json.loads(line)
        return cls(**{**values, "workload": Workload(**values["workload"])})


class EngineProcess:
    """Works only while an order runs."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        assert child.stdin is not None and child.stdout is not None
        self._orders, self._answers = child.stdin, child.stdout
        self.process = psutil.Process(child.pid)
        assert self._answers.readline() == "ready\n", "the engine did not start"

    def run(self, order: Order) -> dict[str, Any]:
        """Waits for the result of one order: tokens, seconds, tokens_per_s."""
        self._orders.write(order.to_json() + "\n")
        self._orders.flush()
        answer: dict[str, Any] = json.loads(self._answers.readline())
        return answer


@contextmanager
def running_engine(model: Path, device: str) -> Iterator[EngineProcess]:
    """The engine of `model` on `device`, with as many threads as a rank takes."""
    module = [sys.executable, "-m", "benchmarks._engine_alone"]
    flags = [f"--model={model}", f"--device={device}", f"--threads={os.cpu_count() or 1}"]
    with subprocess.Popen(
        [*module, *flags], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            yield EngineProcess(child)
        finally:
            child.kill()
