"""How OpenMP's threads should wait: decoding alone, and beside neighbours that are busy.

    python -m benchmarks.waiting --model FOLDER [--output benchmarks/results/x.json]

Regime: the worker's model alone, batch 1, greedy, in a process of its own for each way of waiting.
The ways take turns, so that whatever else the machine does hits all of them; a figure is the median
of single steps over all turns. A neighbour is a process that counts. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from benchmarks._record import record

WAYS: dict[str, dict[str, str]] = {
    "as it comes": {},
    "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
}

CHILD = """
import json, sys
from pathlib import Path
import torch
from benchmarks.decode import Ours, seconds
from services.worker.models import load_model
model = load_model(Path(sys.argv[1]), device=torch.device("cpu"), dtype=torch.bfloat16)
torch.set_num_threads(int(sys.argv[2]))
run = Ours(model, torch.arange(5, 69)[None], 40)
print(json.dumps([seconds(run.step) for _ in range(32)][4:]))
"""


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """Processes that each keep one core busy."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def step_times(model: Path, threads: int, way: dict[str, str]) -> list[float]:
    """Seconds of single steps in a process that waits in this way."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(model), str(threads)],
        env={**inherited, **way},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    times: list[float] = json.loads(child.stdout)
    return times


def main() -> None:
    """Runs the comparison and prints it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.waiting")
    parser.add_argument("--model", type=Path, required=True, help="a checkpoint folder")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--output", type=Path, help="also write the result to this file")
    arguments = parser.parse_args()
    figures = []
    for num_neighbours in (0, 1, 2):
        times: dict[str, list[float]] = {name: [] for name in WAYS}
        with neighbours(num_neighbours):
            for _ in range(arguments.turns):
                for name, way in WAYS.items():
                    times[name] += step_times(arguments.model, arguments.threads, way)
        speeds = {name: round(1 / median(taken), 1) for name, taken in times.items()}
        figures.append({"neighbours": num_neighbours, "tokens_per_s": speeds})
        print(figures[-1], flush=True)
    record(
        "waiting",
        arguments.model,
        arguments.output,
        threads=arguments.threads,
        figures=figures,
    )


if __name__ == "__main__":
    main()
