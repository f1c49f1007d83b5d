"""`octavo serve`, its processes and its end, with stand-ins for the services."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.octavo.launcher.processes import is_running, wait_until

pytestmark = pytest.mark.timeout(60)

ROLES = ("tokenizer", "worker", "gateway")
FREE_PORTS = ("--http-port=0", "--grpc-port=0", "--metrics-port=0")


class Run:
    """`octavo serve` as a process, and what its stand-ins write down."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[str] | None = None

    def act(self, role: str, act: str) -> None:
        (self.folder / f"{role}.acts").write_text(act)

    def start(self, *flags: str) -> subprocess.Popen[str]:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.octavo.launcher.serve_fakes", *FREE_PORTS, *flags],
            env={**os.environ, "FAKES": str(self.folder), "XDG_STATE_HOME": str(self.folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        return self._process

    def start_serving(self, *flags: str) -> tuple[subprocess.Popen[str], str]:
        """Also what it printed until it served."""
        process = self.start(*flags)
        assert process.stdout is not None
        text = ""
        for line in process.stdout:
            text += line
            if line == "END\n":
                return process, text
        raise AssertionError(text + self._stderr())

    def _stderr(self) -> str:
        assert self._process is not None and self._process.stderr is not None
        return self._process.stderr.read()

    @property
    def journal(self) -> list[str]:
        path = self.folder / "journal"
        return path.read_text().splitlines() if path.exists() else []

    def pid(self, name: str) -> int:
        path = self.folder / f"{name}.pid"
        wait_until(lambda: path.exists() and bool(path.read_text()))
        return int(path.read_text())

    def flags(self, role: str) -> dict[str, str]:
        flags: dict[str, str] = json.loads((self.folder / f"{role}.flags").read_text())
        return flags

    def all_gone(self) -> bool:
        return not any(is_running(int(p.read_text())) for p in self.folder.glob("*.pid"))

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        for path in self.folder.glob("*.inner.pid"):
            if is_running(pid := int(path.read_text())):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    run = Run(tmp_path)
    yield run
    run.close()
    wait_until(run.all_gone)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_starts_inside_out_and_stops_outside_in(run: Run, number: signal.Signals) -> None:
    process, text = run.start_serving()
    port = json.loads(next(run.folder.rglob("gateway.ready.json")).read_text())["grpc_port"]
    assert "preparing  1 / 2 MB" in text
    assert "grpcurl -plaintext" in text and f"127.0.0.1:{port} octavo.v1" in text
    assert "curl -N http://127.0.0.1:1/v1/chat/completions" in text
    process.send_signal(number)
    _, stderr = process.communicate(timeout=20)
    assert (process.returncode, stderr) == (0, "")
    starts, ends = run.journal[:3], run.journal[3:]
    assert set(starts[:2]) == {"tokenizer starts", "worker starts"}
    assert starts[2] == "gateway starts"
    assert ends == ["gateway ends", "worker ends", "tokenizer ends"]
    wait_until(run.all_gone)


def test_flags_reach_their_services(run: Run, tmp_path: Path) -> None:
    model = tmp_path / "checkpoint"
    model.mkdir()
    (model / "config.json").write_text("{}")
    flags = ["--device=cpu", "--num-devices=2", "--max-context=64", f"--model={model}"]
    flags += ["--chat-template=llama-2", "--cors-origin=http://a", "--no-docs"]
    run.start_serving(*flags)
    worker, gateway = run.flags("worker"), run.flags("gateway")
    assert worker["model"] == run.flags("tokenizer")["model"] == str(model)
    assert run.flags("tokenizer")["chat-template"] == "llama-2"
    assert worker["model-name"] == "checkpoint"
    assert (worker["device"], worker["num-devices"], worker["max-context"]) == ("cpu", "2", "64")
    assert "dtype" not in worker
    assert worker["port"] == "0" and gateway["grpc-port"] == "0"
    assert gateway["cors-origin"] == "http://a" and "no-docs" in gateway
    ports = {
        role: json.loads(next(tmp_path.rglob(f"{role}.ready.json")).read_text())["port"]
        for role in ("tokenizer", "worker")
    }
    assert gateway["tokenizer"] == f"127.0.0.1:{ports['tokenizer']}"
    assert gateway["worker"] == f"127.0.0.1:{ports['worker']}"


def test_a_model_of_the_hub_is_fetched_once_and_served_under_its_name(run: Run) -> None:
    run.start_serving("--hf-model-name=tests/model", "--hf-revision=v1")
    worker = run.flags("worker")
    assert worker["model-name"] == "tests/model"
    assert worker["model"] == run.flags("tokenizer")["model"]
    assert worker["model"] == str(run.folder / "--revision=v1----tests-model")


def test_the_hubs_refusal_is_relayed(run: Run) -> None:
    process = run.start("--hf-model-name=tests/absent")
    _, stderr = process.communicate(timeout=20)
    problem = "tests/absent cannot be downloaded: tests/absent is not on the hub"
    assert (process.returncode, stderr) == (2, f"octavo serve: {problem}\n")
    assert run.journal == []


def test_an_origin_that_is_none_is_refused_before_anything_starts(run: Run) -> None:
    process = run.start("--cors-origin=a.example.com")
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 2
    assert stderr.startswith("octavo serve: --cors-origin") and stderr.count("\n") == 1
    assert run.journal == []


@pytest.mark.parametrize("role", ROLES)
def test_a_service_that_dies_is_reported_with_its_last_lines(run: Run, role: str) -> None:
    run.act(role, "die")
    process = run.start()
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 1
    first, *rest = stderr.splitlines()
    assert first.startswith(f"octavo serve: the {role} ended with status 3; ")
    assert [line.strip() for line in rest] == [f"line {number}" for number in range(10, 30)]
    wait_until(run.all_gone)


def test_a_service_that_is_killed_while_serving_ends_all(run: Run) -> None:
    process, _ = run.start_serving()
    os.kill(run.pid("worker"), signal.SIGKILL)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "the worker ended with signal SIGKILL" in stderr
    assert run.journal[3:] == ["gateway ends", "tokenizer ends"]
    wait_until(run.all_gone)


@pytest.mark.parametrize("role", ROLES)
def test_a_refusal_is_relayed_as_one_line_and_status_2(run: Run, role: str) -> None:
    run.act(role, "refuse")
    process = run.start()
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 2
    assert stderr == "octavo serve: needs 99 GB of memory; 1 GB is available\n"
    wait_until(run.all_gone)


def test_a_second_signal_kills_what_does_not_end(run: Run) -> None:
    run.act("gateway", "deaf")
    process, _ = run.start_serving("--drain-limit-s=600")
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    assert "stopping" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    signalled_at = time.monotonic()
    process.communicate(timeout=20)
    assert time.monotonic() - signalled_at < 5  # a second and what a busy machine adds
    assert process.returncode == 1
    wait_until(run.all_gone)


def test_killed_it_leaves_nothing(run: Run) -> None:
    process, _ = run.start_serving()
    services = [run.pid(role) for role in ROLES]
    process.kill()
    process.wait()
    wait_until(lambda: not any(map(is_running, services)))


def test_a_signal_while_the_model_is_prepared(run: Run) -> None:
    run.act("prepare", "hang")
    process = run.start()
    preparing = run.pid("prepare")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 0
    assert not is_running(preparing)
    assert run.journal == []


@pytest.mark.parametrize(
    ("act", "status", "problem"),
    [
        ("fail", 2, "the default model cannot be prepared: the disk is full"),
        ("crash", 1, "the default model cannot be prepared: its program ended with status 1"),
    ],
)
def test_a_model_that_cannot_be_prepared(run: Run, act: str, status: int, problem: str) -> None:
    run.act("prepare", act)
    process = run.start()
    _, stderr = process.communicate(timeout=20)
    assert (process.returncode, stderr) == (status, f"octavo serve: {problem}\n")
    assert run.journal == []


def test_it_says_when_the_worker_stops_serving_and_when_it_is_back(run: Run) -> None:
    process, _ = run.start_serving()
    assert process.stdout is not None
    os.kill(run.pid("worker"), signal.SIGUSR1)
    assert process.stdout.readline() == "the worker does not serve: it does not say why\n"
    os.kill(run.pid("worker"), signal.SIGUSR2)
    assert process.stdout.readline() == "the worker serves again\n"


def test_output_is_kept_and_shown_when_asked(run: Run) -> None:
    run.act("gateway", "die")
    process = run.start("--verbose")
    stdout, _ = process.communicate(timeout=20)
    assert "[gateway] line 0\n" in stdout
    log = next(run.folder.glob("octavo/logs/serve-*/gateway.log"))
    assert log.read_text().splitlines() == [f"line {number}" for number in range(30)]
