"""Runs parts one after the other, each in a process of its own, each with a time limit.

Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from benchmarks.gpu.parts import Context, Part

_TAIL_LINES = 30
_SHORTEST_S = 5.0  # less is not worth a start


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How a part ended: passed, failed, timed out or skipped. `error` is the end of its output."""

    status: str
    seconds: float = 0.0
    device: Mapping[str, str] | None = None
    figures: Mapping[str, Any] | None = None
    error: str | None = None


def run_parts(
    parts: Mapping[str, Part], names: Iterable[str], context: Context, *, log: Path, limit_s: float
) -> Iterator[tuple[str, Outcome]]:
    """Yields each part's outcome as it ends; their output is appended to `log`.

    `limit_s` is for all of them together: a part gets what is left of it, and none is started for
    less than five seconds.
    """
    give_up_at = time.monotonic() + limit_s
    for name in names:
        left_s = give_up_at - time.monotonic()
        if left_s < _SHORTEST_S:
            yield name, Outcome(status="skipped", error=f"no time is left of {limit_s:.0f} s")
        else:
            part_limit_s = min(parts[name].limit_s, left_s)
            yield name, _run(parts[name], context, log=log, limit_s=part_limit_s)


def _run(part: Part, context: Context, *, log: Path, limit_s: float) -> Outcome:
    start, log_start = time.monotonic(), log.stat().st_size if log.exists() else 0
    with tempfile.TemporaryDirectory(prefix="octavo-gpu-") as folder:
        answer = Path(folder) / "answer.json"
        with log.open("ab") as output:
            status = _status(_command(part, context, answer), output, limit_s)
        seconds = round(time.monotonic() - start, 1)
        if status == "passed":
            values = json.loads(answer.read_text(encoding="utf-8"))
            return Outcome(status=status, seconds=seconds, **values)
        return Outcome(status=status, seconds=seconds, error=_tail(log, log_start))


def _command(part: Part, context: Context, answer: Path) -> list[str]:
    is_installed = context.python.is_file() and not part.installs
    python = str(context.python) if is_installed else sys.executable
    order = json.dumps(asdict(context), default=str)
    return [python, "-m", "benchmarks.gpu.part_process", part.module, order, str(answer)]


def _status(command: list[str], output: BinaryIO, limit_s: float) -> str:
    """Runs the command, and ends whatever it leaves behind in its process group."""
    process = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        return "failed" if process.wait(limit_s) else "passed"
    except subprocess.TimeoutExpired:
        return "timed out"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _tail(log: Path, start: int) -> str:
    """The last lines that were written to the log since `start`."""
    with log.open("rb") as file:
        file.seek(start)
        lines = file.read().decode("utf-8", "replace").splitlines()
    return "\n".join(lines[-_TAIL_LINES:])
