"""Abuse through both doors beside somebody else's stream: it is refused, and slows nobody down."""

from __future__ import annotations

import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from octavo.v1 import generation_pb2_grpc
from tests.end_to_end.product import REPOSITORY, Product, greedy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]

ROUNDS = 6
TOKENS = 60
ATTEMPTS = 4  # busy neighbours may spoil some
MIB = 1024 * 1024
REFUSED = {
    "NaN": {"INVALID_ARGUMENT"},
    "NaN in JSON": {"400"},
    "a prompt of 10 MB": {"INVALID_ARGUMENT"},
    "no message": {"INVALID_ARGUMENT"},
    "a number past 64 bits": {"400"},
    "a million ids": {"INVALID_ARGUMENT"},
    "deep JSON": {"400"},
    "a lone surrogate": {"400"},
    "a prompt of 10 MB in JSON": {"413", "closed"},
    "long metadata": {"RESOURCE_EXHAUSTED"},
    "a key given twice": {"400"},
    "no route": {"404"},
}


@pytest.fixture(scope="module")
def apart(default_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """The default model's worker group on cores of its own, as elsewhere on a device of its own:
    what is measured is what the gateway and the tokenizer add.
    """
    product = Product(default_model, tmp_path_factory.mktemp("abuse"))
    *workers, last = sorted(os.sched_getaffinity(0))
    product.start()
    _pin(product.worker.pid, workers or [last])
    for service in (product.gateway, product.tokenizer):
        _pin(service.pid, [last])
    yield product
    assert set(product.stop().values()) == {0}


def _pin(pid: int, cores: list[int]) -> None:
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    for process in processes:
        for thread in process.threads():
            os.sched_setaffinity(thread.id, cores)


class Abuser:
    """The process that abuses, beside the gateway on its core."""

    def __init__(self, product: Product) -> None:
        ports = product.gateway.ports
        command = [sys.executable, "-m", "tests.faults.abuser"]
        self._process = subprocess.Popen(
            [*command, str(ports["http_port"]), str(ports["grpc_port"])],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._answer() == "ready\n"
        _pin(self._process.pid, [max(os.sched_getaffinity(0))])

    def go(self) -> None:
        self._say("go\n")

    def stop(self) -> dict[str, int]:
        """How often which request ended how, since the beginning."""
        self._say("stop\n")
        ended: dict[str, int] = json.loads(self._answer())
        return ended

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


@pytest.fixture
def abuser(apart: Product) -> Iterator[Abuser]:
    abuser = Abuser(apart)
    yield abuser
    abuser.close()


def p99_ms(stub: generation_pb2_grpc.GenerationServiceStub) -> float:
    """The 99th percentile of the times between the tokens of one stream."""
    request = greedy([1, 28120, 253], TOKENS)
    request.output.text = True
    arrived = [
        time.perf_counter() for event in stub.StreamGenerate(request) if event.HasField("delta")
    ]
    gaps = [1_000 * (later - earlier) for earlier, later in itertools.pairwise(arrived[1:])]
    return statistics.quantiles(gaps, n=100)[98]


def typical_p99_ms(
    stub: generation_pb2_grpc.GenerationServiceStub, abuser: Abuser
) -> tuple[float, float]:
    """Of quiet phases, and of disturbed ones between them: the lower quartile, since a neighbour on
    the machine can only make a phase longer.
    """
    quiet, disturbed = [], []
    for _ in range(ROUNDS):
        quiet.append(p99_ms(stub))
        abuser.go()
        disturbed.append(p99_ms(stub))
        abuser.stop()
    return statistics.quantiles(quiet, n=4)[0], statistics.quantiles(disturbed, n=4)[0]


def test_other_streams_do_not_notice(apart: Product, abuser: Abuser) -> None:
    measured = []
    with apart.generation() as stub:
        p99_ms(stub)  # what is done once
        for _ in range(ATTEMPTS):
            measured.append(typical_p99_ms(stub, abuser))
            quiet, disturbed = measured[-1]
            if disturbed <= 1.1 * quiet:
                return
    pytest.fail(f"inter-token p99 in ms, quiet and disturbed: {measured}")


def test_abuse_is_refused_and_leaves_nothing_behind(apart: Product, abuser: Abuser) -> None:
    gateway = psutil.Process(apart.gateway.pid)
    abuser.go()
    time.sleep(3)
    before = gateway.memory_info().rss
    time.sleep(3)
    ended = abuser.stop()
    for name, expected in REFUSED.items():
        found = {line.removeprefix(f"{name}: ") for line in ended if line.startswith(f"{name}: ")}
        assert found and found <= expected, (name, found)
    assert gateway.memory_info().rss - before < 32 * MIB
    for service in (apart.gateway, apart.tokenizer, apart.worker):
        assert not re.search(r"\[(error|critical)", service.log.read_text()), service.log
    with apart.generation() as stub:
        assert stub.Generate(greedy([1], 3)).usage.completion_token_count == 3
