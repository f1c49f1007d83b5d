"""The serving benchmark on a tiny model, from start to its last line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


def test_its_help_says_what_it_measures_and_what_each_flag_is() -> None:
    command = [sys.executable, "-m", "benchmarks.serving", "--help"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "\nThe running product under load" in text
    _, _, options = text.partition("\noptions:\n")
    for option in options.split("\n  -")[1:]:
        assert len(option.split("  ")[-1].strip()) > 3, option


@pytest.mark.slow
def test_every_door_is_measured_beside_the_engine(
    checkpoints: Path, repository: Path, tmp_path: Path
) -> None:
    output = tmp_path / "serving.json"
    flags = ["--quick", "--concurrency", "1", "4", "--rate", "5", "--device=cpu"]
    command = [sys.executable, "-m", "benchmarks.serving", "--model", str(checkpoints / "chat-l0")]
    done = subprocess.run(
        [*command, *flags, f"--output={output}"],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result == json.loads(output.read_text())
    loads = [(figure["door"], figure["load"]) for figure in result["figures"]]
    doors = ["unary", "stream", "session", "http"]
    closed = [(door, f"closed {clients}") for clients in (1, 4) for door in doors]
    assert loads == [*closed, ("stream", "open 5.0/s"), ("http", "open 5.0/s")]
    for figure in result["figures"]:
        assert figure["errors"] == {}
        assert figure["finished"] + figure["cancelled"] == figure["requests"] > 0
        assert figure["tokens_per_s"] > 0
        assert {"client", "gateway", "tokenizer", "front", "rank"} <= figure["cpu_s"].keys()
        assert figure["cpu_s"]["engine"] < 0.1 * figure["seconds"]  # it waits meanwhile
    for figure in result["figures"][: len(closed)]:
        assert figure["delivered_to_engine"] > 0
        assert figure["engine_tokens_per_s"] > 0
