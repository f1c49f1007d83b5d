"""The running product: `octavo serve` on free ports, started and stopped for a benchmark."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from octavo.launcher.readiness import serving
from octavo.tether import tethered

_START_LIMIT_S = 300.0
_STOP_LIMIT_S = 30.0
# The role of a process, by the module that it runs.
_ROLES = {
    "gateway": "gateway",
    "services.tokenizer": "tokenizer",
    "services.worker": "front",
    "services.worker.launch": "launcher",
    "services.worker.rank": "rank",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Product:
    """Where it can be reached, and the process of `octavo serve`."""

    grpc: str  # host:port
    http: str  # http://host:port
    metrics: str  # the gateway's, as a URL
    process: psutil.Process

    def processes(self) -> dict[str, list[psutil.Process]]:
        """The processes of each role; helpers of a service count as the service."""
        roles: dict[str, list[psutil.Process]] = {}
        for process in self.process.children(recursive=True):
            roles.setdefault(_role(process), []).append(process)
        return roles


@contextmanager
def running_product(
    model: Path, *flags: str, environment: Mapping[str, str] | None = None
) -> Iterator[Product]:
    """Starts it, waits until it serves, and stops it at the end."""
    with (
        tempfile.TemporaryDirectory(prefix="octavo-bench-") as folder,
        _serve(model, Path(folder), flags, environment or dict(os.environ)) as process,
    ):
        ports = _ports(Path(folder), process)
        address = f"127.0.0.1:{ports['grpc_port']}"
        asyncio.run(asyncio.wait_for(serving(address), _START_LIMIT_S))
        yield Product(
            grpc=address,
            http=f"http://127.0.0.1:{ports['http_port']}",
            metrics=f"http://127.0.0.1:{ports['metrics_port']}/metrics",
            process=psutil.Process(process.pid),
        )


@contextmanager
def _serve(
    model: Path, folder: Path, flags: tuple[str, ...], environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    ports = [f"--{name}-port=0" for name in ("http", "grpc", "metrics")]
    command = [sys.executable, "-m", "octavo", "serve", f"--model={model}", *ports, *flags]
    with (folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            tethered([*command, f"--log-folder={folder}"]),  # it ends with the benchmark
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C reaches the benchmark, which stops it
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ports(folder: Path, process: subprocess.Popen[bytes]) -> dict[str, int]:
    """What the gateway wrote down once its ports were bound."""
    give_up_at = time.monotonic() + _START_LIMIT_S
    while not (files := list(folder.glob("serve-*/gateway.ready.json"))):
        if process.poll() is not None or time.monotonic() > give_up_at:
            output = (folder / "serve.log").read_text(encoding="utf-8", errors="replace")
            raise SystemExit(f"the product did not start:\n{output}")
        time.sleep(0.05)
    ports: dict[str, int] = json.loads(files[0].read_text(encoding="utf-8"))
    return ports


def _role(process: psutil.Process) -> str:
    """By its own module, or that of the nearest ancestor that runs one of ours."""
    for candidate in (process, *process.parents()):
        try:
            command = candidate.cmdline()
        except psutil.NoSuchProcess:
            continue
        module = command[command.index("-m") + 1] if "-m" in command[:-1] else ""
        if module in _ROLES:
            return _ROLES[module]
    return "other"
