"""`octavo serve`, as a new user runs it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.end_to_end.product import REPOSITORY

SERVE = [sys.executable, "-m", "octavo", "serve"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serve_flags() -> list[str]:
    return [f"--{name}={free_port()}" for name in ("http-port", "grpc-port", "metrics-port")]


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*SERVE, *arguments],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
    )


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*SERVE, *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )


def read_until(process: subprocess.Popen[str], pattern: str) -> str:
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if re.search(pattern, text):
            return text
    raise AssertionError(f"ended without {pattern!r}:\n{text}")


@pytest.fixture
def serving(checkpoints: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`octavo serve` on a tiny checkpoint, and what it printed until it served."""
    with start("--model", str(checkpoints / "chat-l0"), *serve_flags()) as process:
        try:
            yield process, read_until(process, r"http://[\d.]+:\d+[\s\S]*octavo\.v1|grpcurl")
        finally:
            process.kill()


def descendants(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def test_it_prints_addresses_that_answer(serving: tuple[subprocess.Popen[str], str]) -> None:
    _, text = serving
    address = re.search(r"http://[\d.]+:\d+", text)
    assert address is not None
    with urllib.request.urlopen(f"{address[0]}/v1/models") as answer:
        assert json.load(answer)["data"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_and_leaves_nothing(
    serving: tuple[subprocess.Popen[str], str], number: signal.Signals
) -> None:
    process, _ = serving
    children = descendants(process.pid)
    assert len(children) >= 4
    process.send_signal(number)
    assert process.wait(30) == 0
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not alive


def test_killed_it_leaves_nothing_either(serving: tuple[subprocess.Popen[str], str]) -> None:
    process, _ = serving
    children = descendants(process.pid)
    process.kill()
    _, alive = psutil.wait_procs(children, timeout=15)
    assert not alive


def test_a_service_that_dies_is_reported(serving: tuple[subprocess.Popen[str], str]) -> None:
    process, _ = serving
    tokenizer = next(
        child for child in descendants(process.pid) if "services.tokenizer" in child.cmdline()
    )
    tokenizer.kill()
    assert process.stdout is not None
    text = process.stdout.read()
    assert process.wait(30) == 1
    assert "tokenizer" in text


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--model", "/nonexistent"], "/nonexistent"),
        (["--num-devices", "0"], "num-devices"),
        (["--http-prot", "1"], "--http-port"),
    ],
)
def test_what_cannot_work_is_one_line_and_status_2(flags: list[str], named: str) -> None:
    result = run(*flags)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1 and named in result.stderr


def test_a_port_in_use_is_one_line_and_status_2(checkpoints: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        flags = ["--model", str(checkpoints / "chat-l0"), *serve_flags()[1:]]
        result = run(*flags, f"--http-port={port}")
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1 and str(port) in result.stderr
