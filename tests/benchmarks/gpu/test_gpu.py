"""`make gpu` without a GPU: the same code on the CPU, with a tiny model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_model_is_made_and_its_engine_measured(repository: Path, tmp_path: Path) -> None:
    flags = ["--device=cpu", "--shape=tiny", f"--work={tmp_path / 'work'}"]
    parts = ["--part=model", "--part=engine"]
    command = [sys.executable, "-m", "benchmarks.gpu", *flags, *parts]
    done = subprocess.run(
        [*command, f"--results={tmp_path / 'results'}", "--commit=abc"],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "results" / "gpu.json").read_text())
    engine = result["parts"]["engine"]
    assert engine["commit"] == "abc"
    assert engine["device"]["name"] == "cpu"
    assert engine["figures"]["prefill_512_tokens_per_s"] > 0
    rows = engine["figures"]["decode"]
    assert [row["batch"] for row in rows] == [1, 8, 32, 64]
    assert all(row["tokens_per_s"] > 0 and 0 < row["of_copy_bandwidth"] < 1 for row in rows)
