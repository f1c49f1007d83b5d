"""A short campaign: every case of the corpus, and some seconds of new ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_broken_checkpoints_are_refused_and_nothing_else_happens(
    repository: Path, tmp_path: Path
) -> None:
    result = tmp_path / "result.json"
    # A process of its own, for coverage must start before the loader is imported.
    command = [sys.executable, "-m", "tests.fuzzing", "--seconds=5", f"--output={result}"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    told = result.read_text() if result.exists() else done.stderr
    assert done.returncode == 0, told[-3000:]
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["findings"] == 0
    assert summary["executions"] > 50
    assert summary["coverage_percent"] >= 90
