"""What taking, filling and freeing memory costs in page faults."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

STEPS = """
import resource
from services.worker.rank.kept_memory import keep_freed_memory

def step():
    scratch = [bytearray(b"x") * (10 * 2**20) for _ in range(4)]

{first}
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES = 10 * 4 * 10 * 2**20 // 4096  # that the ten steps fill


def num_faults(repository: Path, first: str) -> int:
    command = [sys.executable, "-c", STEPS.format(first=first)]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_freed_memory_is_taken_again_without_faults(repository: Path) -> None:
    assert num_faults(repository, "") > PAGES / 2
    assert num_faults(repository, "keep_freed_memory()") < PAGES / 100
