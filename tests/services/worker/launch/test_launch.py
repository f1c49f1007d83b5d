"""The launcher of one generation, with ranks that do nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from services.worker.link.parent_death import PARENT_PID

pytestmark = pytest.mark.slow

RANK = "tests.services.worker.launch.sleeping_rank"


@contextmanager
def launched(
    temporary: Path, num_ranks: int, **environment: str
) -> Iterator[subprocess.Popen[str]]:
    options = ["--num-ranks", str(num_ranks), "--rank-module", RANK, "--run-id", "test"]
    with subprocess.Popen(
        [sys.executable, "-m", "services.worker.launch", *options],
        env={
            **os.environ,
            PARENT_PID: str(os.getpid()),
            "TMPDIR": str(temporary),
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read_pids(process: subprocess.Popen[str], count: int) -> list[int]:
    assert process.stdout is not None
    return [int(process.stdout.readline()) for _ in range(count)]


def test_sigterm_ends_the_ranks_without_a_traceback(tmp_path: Path) -> None:
    with launched(tmp_path, 2) as process:
        ranks = [psutil.Process(pid) for pid in read_pids(process, 2)]
        process.terminate()
        _, errors = process.communicate(timeout=30)
        assert (process.returncode, errors) == (0, "")
        assert not any(rank.is_running() for rank in ranks)
        assert list(tmp_path.iterdir()) == []


def test_nothing_of_it_listens_on_a_network(tmp_path: Path) -> None:
    with launched(tmp_path, 2) as process:
        ranks = [psutil.Process(pid) for pid in read_pids(process, 2)]
        family = [psutil.Process(process.pid), *ranks]
        assert [one.net_connections("inet") for one in family] == [[], [], []]


def test_kill_9_of_the_launcher_leaves_no_orphan(tmp_path: Path) -> None:
    with launched(tmp_path, 2) as process:
        ranks = [psutil.Process(pid) for pid in read_pids(process, 2)]
        process.kill()
        _, alive = psutil.wait_procs(ranks, timeout=5)
        assert [rank for rank in alive if rank.status() != psutil.STATUS_ZOMBIE] == []
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("status", [0, 3])
def test_ends_as_its_ranks_end_and_says_nothing(tmp_path: Path, status: int) -> None:
    with launched(tmp_path, 1, FAKE_STATUS=str(status)) as process:
        _, errors = process.communicate(timeout=30)
        assert (process.returncode, errors) == (min(status, 1), "")
        assert list(tmp_path.iterdir()) == []
