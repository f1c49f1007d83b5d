"""`octavo status`: what the gateway's own metrics say, once and live."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from gateway.live_metrics import LiveCollector
from octavo.cli.gateway_load import GatewayLoad, WorkerLoad, load_from_metrics
from octavo.cli.load_report import LoadReport
from octavo.client.services.worker_types import Load
from octavo.metrics import MetricsServer
from tests.octavo.cli.conftest import Run


@dataclass
class Worker:
    """What the gateway's collector looks at."""

    address: str
    is_ready: bool = True
    load: Load = field(default_factory=Load)
    num_generated_tokens: int = 0
    description: Any = None


@dataclass
class Admission:
    num_requests: int = 3
    num_bytes: int = 0


@dataclass(frozen=True)
class Ranks:
    ranks: int


WORKERS = [
    Worker(
        "10.0.0.1:8003",
        load=Load(running=2, waiting=5, kv_blocks_used=30, kv_blocks_total=120),
        description=Ranks(2),
    ),
    Worker("10.0.0.2:8003", is_ready=False),
]


@pytest.fixture
def metrics() -> Iterator[MetricsServer]:
    registry = CollectorRegistry()
    collector = LiveCollector(
        admission=cast("Any", Admission()),
        workers=cast("Any", WORKERS),
        tokenizers=cast("Any", [Worker("10.0.0.3:8002")]),
    )
    registry.register(collector)
    server = MetricsServer.start(registry, "127.0.0.1", 0)
    yield server
    server.close()


def flags(metrics: MetricsServer) -> list[str]:
    return [f"--metrics-address=127.0.0.1:{metrics.port}", "--interval=0.1"]


def test_a_look_has_everything(metrics: MetricsServer, run: Run) -> None:
    done = run("status", *flags(metrics))
    assert done.status == 0
    rows = [line.split() for line in done.out.splitlines()]
    assert f"127.0.0.1:{metrics.port}: 3 requests open" in done.out
    assert rows[2] == ["WORKER", "STATE", "RANKS", "RUNNING", "QUEUE", "KV", "BLOCKS", "TOKENS/S"]
    assert rows[3] == ["10.0.0.1:8003", "ready", "2", "2", "5", "30", "/", "120", "(25%)", "0.0"]
    assert rows[4][:4] == ["10.0.0.2:8003", "not", "ready", "0"]
    assert rows[-1] == ["10.0.0.3:8002", "ready"]


def test_json_is_one_object(metrics: MetricsServer, run: Run) -> None:
    (line,) = run("status", "--json", *flags(metrics)).out.splitlines()
    value = json.loads(line)
    assert (value["requests_open"], len(value["workers"])) == (3, 2)
    assert value["workers"][0]["requests_waiting"] == 5
    assert value["workers"][0]["ranks"] == 2
    assert value["tokenizers"] == [{"address": "10.0.0.3:8002", "ready": True}]


def load(read_at_s: float, tokens: int) -> GatewayLoad:
    worker = WorkerLoad(
        address="w",
        ready=True,
        ranks=1,
        requests_running=0,
        requests_waiting=0,
        kv_blocks_used=0,
        kv_blocks_total=0,
        generated_tokens=tokens,
    )
    return GatewayLoad(read_at_s=read_at_s, requests_open=0, workers=[worker], tokenizers=[])


def test_tokens_are_counted_between_two_looks() -> None:
    assert LoadReport(load(10, 100), load(12, 150)).values()["tokens_per_s"] == 25
    assert LoadReport(load(10, 100), load(12, 40)).values()["tokens_per_s"] == 20  # started anew


def test_no_metrics_is_status_3(metrics: MetricsServer, run: Run) -> None:
    metrics_flags = flags(metrics)
    metrics._server.server_close()
    done = run("status", *metrics_flags)
    assert (done.status, done.out, done.err.count("\n")) == (3, "", 1)
    assert "--metrics-address" in done.err


def test_what_is_no_gateway_says_so(run: Run) -> None:
    registry = CollectorRegistry()
    other = MetricsServer.start(registry, "127.0.0.1", 0)
    done = run("status", *flags(other))
    other.close()
    assert done.status == 3
    assert "counts no requests" in done.err


def test_a_grpc_port_says_so(run: Run, server: Any) -> None:
    done = run("status", f"--metrics-address={server.address}")
    assert done.status == 3
    assert "speaks no HTTP" in done.err


def test_text_that_is_none_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="requests"):
        load_from_metrics("", read_at_s=0)


def test_the_live_view_redraws_until_ctrl_c(metrics: MetricsServer) -> None:
    master, terminal = pty.openpty()
    command = [sys.executable, "-m", "octavo", "status", *flags(metrics)]
    with subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal) as process:
        os.close(terminal)
        text = ""
        while text.count("WORKER") < 3:
            text += os.read(master, 4096).decode()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
    os.close(master)
    assert len(re.findall("\x1b\\[8F\x1b\\[Jgateway ", text)) >= 2  # over its eight lines


def test_watching_elsewhere_adds_a_line_each_time(metrics: MetricsServer) -> None:
    command = [sys.executable, "-m", "octavo", "status", "--watch", "--json", *flags(metrics)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        looks = [json.loads(process.stdout.readline()) for _ in range(3)]
        metrics.close()
        while "error" not in looks[-1]:
            looks.append(json.loads(process.stdout.readline()))
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
    assert "metrics of a gateway" in looks[-1]["error"]
