"""The product under three times the load that it can serve."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

# What others take of the machine they take of the figures.
QUIET_SHARE = 0.15
MAX_WAITING = 256  # the worker's own default


def overload(model: Path, repository: Path) -> dict[str, Any]:
    flags = ["--max-tokens=100", "--closed-s=4", "--open-s=15", "--device=cpu"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.overload", "--model", str(model), *flags],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.mark.slow
@pytest.mark.timeout(320)
def test_what_can_finish_does_and_the_rest_is_told_at_once(
    checkpoints: Path, repository: Path
) -> None:
    result = overload(checkpoints / "chat-l0", repository)
    if result["others_share"] > QUIET_SHARE:
        result = overload(checkpoints / "chat-l0", repository)
    assert set(result["errors"]) <= {"QUEUE_TOO_LONG", "QUEUE_FULL", "DEADLINE_EXCEEDED"}, result
    assert result["longest_queue"] <= MAX_WAITING
    if result["others_share"] > QUIET_SHARE:
        pytest.skip(f"others took {result['others_share']:.0%} of the machine, twice")
    assert result["refusal_p99_over_idle_ms"] <= 50, result
    assert result["goodput_to_capacity"] >= 0.9, result
