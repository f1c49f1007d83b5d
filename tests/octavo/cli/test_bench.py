"""`octavo bench`: figures for people and for programs."""

from __future__ import annotations

import json

import pytest

from octavo.bench.doors import DOORS
from octavo.cli.bench import DoorName
from octavo.errors import ResourceExhaustedError
from tests.octavo.cli.conftest import Run
from tests.octavo.client.scripted_server import ScriptedServer, refuse, say

FIVE = ["--max-tokens", "5", "--requests", "6"]


@pytest.fixture
def talking(server: ScriptedServer) -> ScriptedServer:
    server.script = say("a", "b", "c", "d", "e")
    return server


def test_its_doors_are_those_of_the_library() -> None:
    assert [door.value for door in DoorName] == list(DOORS)


@pytest.mark.parametrize("load", [["--concurrency", "3"], ["--rate", "500"]])
def test_a_table_for_people(run: Run, talking: ScriptedServer, load: list[str]) -> None:
    done = run("bench", *FIVE, *load)
    assert done.status == 0, done.err
    first, rates, good, _, head, *rows = done.out.splitlines()
    assert first.startswith("6 finished, 0 cancelled, 0 failed in ")
    assert "tokens/s" in rates and "100 % within the limits" in good
    assert head.split() == ["ms", "p50", "p90", "p99"]
    assert [row[:16].strip() for row in rows] == ["first token", "between tokens", "whole answer"]


def test_json_for_programs(run: Run, talking: ScriptedServer) -> None:
    (line,) = run("bench", *FIVE, "--json").out.splitlines()
    figures = json.loads(line)
    assert (figures["door"], figures["requests"], figures["tokens"]) == ("stream", 6, 30)
    assert figures["inter_token_ms"].keys() == {"p50", "p90", "p99"}


def test_failures_are_counted_by_reason(run: Run, server: ScriptedServer) -> None:
    full = ResourceExhaustedError("full", reason="QUEUE_FULL")
    server.script = refuse(full, times=2, then=say("a", "b", "c", "d", "e"))
    done = run("bench", *FIVE, "--concurrency", "1")
    assert done.status == 1
    assert done.out.splitlines()[0].startswith("4 finished, 0 cancelled, 2 failed in ")
    assert done.out.splitlines()[1] == "  2 QUEUE_FULL"


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--door", "http"], "http is absent"),
        (["--max-tokens", "60"], "max_tokens is 60; it must be at most 59"),
    ],
)
def test_what_cannot_be_sent_is_one_line(run: Run, flags: list[str], problem: str) -> None:
    done = run("bench", *flags)
    assert done.status == 2
    assert done.err.startswith(f"octavo bench: {problem}")
    assert done.err.count("\n") == 1
