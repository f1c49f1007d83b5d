"""`python -m services.tokenizer` as a process."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from octavo.rpc.channel import open_channel
from octavo.v1 import tokenizer_pb2 as pb
from octavo.v1 import tokenizer_pb2_grpc

pytestmark = pytest.mark.slow


@dataclass(frozen=True, kw_only=True)
class Running:
    process: subprocess.Popen[str]
    port: int
    metrics_port: int


def command(model: Path, *flags: str) -> list[str]:
    return [sys.executable, "-m", "services.tokenizer", "--model", str(model), *flags]


@contextmanager
def running(repository: Path, model: Path, ready: Path) -> Iterator[Running]:
    flags = ["--port", "0", "--metrics-port", "0", "--ready-file", str(ready)]
    process = subprocess.Popen(
        command(model, *flags), cwd=repository, stderr=subprocess.PIPE, text=True
    )
    with process, ExitStack() as stack:
        stack.callback(process.kill)
        limit = time.monotonic() + 60
        while not ready.exists():
            assert process.poll() is None
            assert time.monotonic() < limit
            time.sleep(0.02)
        ports = json.loads(ready.read_text(encoding="utf-8"))
        yield Running(process=process, port=ports["port"], metrics_port=ports["metrics_port"])


@pytest.fixture
def served(repository: Path, checkpoints: Path, tmp_path: Path) -> Iterator[Running]:
    with running(repository, checkpoints / "chat-l0", tmp_path / "ready.json") as process:
        yield process


async def test_a_process_serves_and_ends_with_an_idle_stream_open(served: Running) -> None:
    helpers = psutil.Process(served.process.pid).children(recursive=True)
    async with open_channel(f"127.0.0.1:{served.port}") as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)  # its stubs have no types
        for name in ("", "octavo.v1.TokenizerService"):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        stub = tokenizer_pb2_grpc.TokenizerServiceStub(channel)
        call = stub.StreamDecode()
        await call.write(pb.StreamDecodeRequest())
        assert await call.read() == pb.StreamDecodeResponse()
        served.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert await asyncio.to_thread(served.process.wait, 20) == 0
        assert time.monotonic() - began < 10  # the drain limit is 30 s
    assert served.process.stderr is not None
    assert "Traceback" not in served.process.stderr.read()
    assert helpers
    assert not any(helper.is_running() for helper in helpers)


async def test_open_outputs_are_finished_before_the_process_ends(served: Running) -> None:
    async with open_channel(f"127.0.0.1:{served.port}") as channel:
        call = tokenizer_pb2_grpc.TokenizerServiceStub(channel).StreamDecode()
        await call.write(pb.StreamDecodeRequest(opens=[pb.OpenDecoder(key=1)]))
        await call.read()
        health: Any = health_pb2_grpc.HealthStub(channel)
        watched = health.Watch(health_pb2.HealthCheckRequest())
        assert (await watched.read()).status == health_pb2.HealthCheckResponse.SERVING
        served.process.send_signal(signal.SIGTERM)
        assert (await watched.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        for token_id, last in [(42, False), (43, False), (44, True)]:
            entry = pb.DecodeEntry(key=1, token_ids=[token_id], last=last)
            await call.write(pb.StreamDecodeRequest(entries=[entry]))
            answer = await call.read()
            assert isinstance(answer, pb.StreamDecodeResponse)
            assert answer.entries[0].text
        assert await asyncio.to_thread(served.process.wait, 20) == 0


def test_the_template_s_helper_ends_with_a_process_that_is_killed(served: Running) -> None:
    helpers = psutil.Process(served.process.pid).children(recursive=True)
    assert helpers
    served.process.kill()
    served.process.wait(10)
    _, alive = psutil.wait_procs(helpers, timeout=10)
    assert not alive


def test_metrics_are_served(served: Running) -> None:
    address = f"http://127.0.0.1:{served.metrics_port}/metrics"
    with urllib.request.urlopen(address, timeout=10) as answer:
        assert b"octavo_tokenizer_decoders_open 0.0" in answer.read()


def failed(repository: Path, model: Path, *flags: str) -> str:
    """The one line that a process ends with."""
    ended = subprocess.run(
        command(model, *flags),
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    return line


PORTS = ("--port", "0", "--metrics-port", "0")


def test_a_folder_that_is_missing_is_named(repository: Path, tmp_path: Path) -> None:
    assert "nowhere" in failed(repository, tmp_path / "nowhere", *PORTS)


def test_a_folder_without_a_tokenizer_is_named(repository: Path, tmp_path: Path) -> None:
    line = failed(repository, tmp_path, *PORTS)
    assert str(tmp_path) in line
    assert "tokenizer.json" in line


@pytest.mark.parametrize("content", ["{", '{"version": "1.0"}'])
def test_a_broken_tokenizer_is_named(repository: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content, encoding="utf-8")
    assert "tokenizer.json" in failed(repository, tmp_path, *PORTS)


@pytest.mark.parametrize("flag", ["--port", "--metrics-port"])
def test_a_port_in_use_is_named(repository: Path, checkpoints: Path, flag: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = failed(repository, checkpoints / "fmo-l0", *PORTS, flag, port)
    assert port in line
