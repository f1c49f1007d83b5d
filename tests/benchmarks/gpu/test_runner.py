from __future__ import annotations

import json
from pathlib import Path

import psutil
import pytest

from benchmarks.gpu.parts import PARTS, Context, Part
from benchmarks.gpu.report import LOG_NAME, RESULT_NAME, TABLE_NAME, Report
from benchmarks.gpu.runner import Outcome, run_parts

FAKES = {
    name: Part(module=f"tests.benchmarks.gpu.fake_parts.{name}", limit_s=limit_s)
    for name, limit_s in (("hanging", 1.0), ("failing", 60.0), ("passing", 60.0))
}


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(device="cpu", wheels=tmp_path / "wheels", work=tmp_path, shape="tiny")


@pytest.mark.slow
def test_parts_that_fail_or_hang_stop_no_other(context: Context, tmp_path: Path) -> None:
    log = tmp_path / LOG_NAME
    outcomes = dict(run_parts(FAKES, FAKES, context, log=log, limit_s=100))
    assert [outcome.status for outcome in outcomes.values()] == ["timed out", "failed", "passed"]
    assert 1.0 <= outcomes["hanging"].seconds < 10
    assert "no such kernel" in (outcomes["failing"].error or "")
    passed = outcomes["passing"]
    assert passed.error is None
    assert passed.figures is not None and passed.figures["on"] == "cpu"
    assert passed.device is not None and passed.device["name"] == "cpu"
    assert [line for line in log.read_text().splitlines() if line.endswith(" runs")] == [
        "hanging runs",
        "failing runs",
        "passing runs",
    ]
    child = int((tmp_path / "child.pid").read_text())
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_no_part_starts_once_the_time_of_all_is_over(context: Context, tmp_path: Path) -> None:
    outcomes = list(run_parts(FAKES, ["passing"], context, log=tmp_path / LOG_NAME, limit_s=4))
    assert [(name, outcome.status) for name, outcome in outcomes] == [("passing", "skipped")]


def test_limits_of_all_parts_fit_the_machine() -> None:
    assert sum(part.limit_s for part in PARTS.values()) <= 540  # what a call may take is 600
    for part in PARTS.values():
        assert Path(*part.module.split(".")).with_suffix(".py").is_file()


def test_every_outcome_is_on_disk_at_once_and_stays(tmp_path: Path) -> None:
    report = Report(tmp_path, commit="abc", command="make gpu")
    report.add("tests", Outcome(status="failed", seconds=3.0, error="one\ntwo"))
    assert list(parts_in(tmp_path)) == ["tests"]
    device = {"name": "a GPU", "torch": "2", "cuda": "13"}
    figures = {"copy": 3.5, "decode": [{"batch": 1, "ms": 2.5}, {"batch": 8, "ms": 3.0}]}
    report.add("engine", Outcome(status="passed", seconds=1.0, device=device, figures=figures))
    assert list(parts_in(tmp_path)) == ["tests", "engine"]
    page = (tmp_path / TABLE_NAME).read_text()
    assert "| tests | failed | 3.0 | - | - | - | abc |" in page
    assert "| engine | passed | 1.0 | a GPU | 2 | 13 | abc |" in page
    assert "| 8 | 3.0 |" in page
    assert "one\ntwo" in page

    later = Report(tmp_path, commit="def", command="make gpu PART=tests")
    later.add("tests", Outcome(status="passed", seconds=2.0, figures={"tests": 5}))
    parts = parts_in(tmp_path)
    assert parts["tests"]["commit"] == "def"
    assert "error" not in parts["tests"]
    assert parts["engine"]["commit"] == "abc"


def parts_in(folder: Path) -> dict[str, dict[str, str]]:
    parts: dict[str, dict[str, str]] = json.loads((folder / RESULT_NAME).read_text())["parts"]
    return parts
