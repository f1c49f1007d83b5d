"""A worker group as a real process, for tests."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
import psutil

from octavo.v1 import worker_pb2, worker_pb2_grpc

CHECKPOINT = Path(__file__).parents[2] / "fixtures" / "checkpoints" / "fmo-l0"
SERVING = worker_pb2.WORKER_STATE_SERVING


@dataclass
class WorkerProcess:
    """The front's process, its ports, a stub and the folder that it uses for what is temporary."""

    process: subprocess.Popen[bytes]
    port: int
    metrics_port: int
    channel: grpc.aio.Channel
    stub: worker_pb2_grpc.WorkerServiceAsyncStub
    temporary: Path
    log: Path

    async def health(self) -> worker_pb2.GetHealthResponse:
        return await self.stub.GetHealth(worker_pb2.GetHealthRequest())

    async def until_serving(self, generation: int = 1) -> worker_pb2.GetHealthResponse:
        async with asyncio.timeout(60):
            while True:
                health = await self.health()
                if health.state == SERVING and health.generation >= generation:
                    return health
                await asyncio.sleep(0.02)

    def family(self) -> list[psutil.Process]:
        """The front and all that it started."""
        front = psutil.Process(self.process.pid)
        return [front, *front.children(recursive=True)]


@asynccontextmanager
async def running_worker(temporary: Path, *flags: str) -> AsyncIterator[WorkerProcess]:
    """Starts a front on free ports; kills what is left of it at the end."""
    ready_file, log = temporary / "ready.json", temporary / "log"
    folder = temporary / "tmp"
    folder.mkdir()
    ports = ["--port", "0", "--metrics-port", "0", "--ready-file", str(ready_file)]
    command = [sys.executable, "-m", "services.worker", "--model", str(CHECKPOINT), *ports]
    process = _start([*command, "--threads", "1", *flags], folder, log)
    try:
        ports_bound = await _read_when_there(ready_file, process, log)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{ports_bound['port']}") as channel:
            yield WorkerProcess(
                process=process,
                port=ports_bound["port"],
                metrics_port=ports_bound["metrics_port"],
                channel=channel,
                stub=worker_pb2_grpc.WorkerServiceStub(channel),
                temporary=folder,
                log=log,
            )
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()


def _start(command: list[str], temporary: Path, log: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
    with log.open("wb") as stderr:
        return subprocess.Popen(command, stderr=stderr, env=environment)


async def _read_when_there(
    path: Path, process: subprocess.Popen[bytes], log: Path
) -> dict[str, int]:
    deadline = time.monotonic() + 30
    while (ports := _read_ports(path)) is None:
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(_read_log(log))
        await asyncio.sleep(0.01)
    return ports


def _read_ports(path: Path) -> dict[str, int] | None:
    ports: dict[str, int] | None = json.loads(path.read_text()) if path.exists() else None
    return ports


def _read_log(log: Path) -> str:
    return log.read_text()


class RunClient:
    """One Run stream, by hand."""

    def __init__(self, worker: WorkerProcess) -> None:
        self.call = worker.stub.Run()
        self.last_load = worker_pb2.Load()
        self.sequence = 0

    async def attach(self) -> RunClient:
        await self.send(attach=worker_pb2.Attach(gateway_id="test"))
        return self

    async def send(
        self, **action: worker_pb2.Attach | worker_pb2.Submit | worker_pb2.Cancel
    ) -> None:
        await self.call.write(worker_pb2.RunRequest(**action))  # type: ignore[arg-type]  # oneof

    async def submit(self, key: int, **fields: object) -> None:
        values: dict[str, object] = {
            "prompt_token_ids": [0, 5, 6, 7],
            "sampling": worker_pb2.ResolvedSampling(temperature=0),
            **fields,
        }
        await self.send(submit=worker_pb2.Submit(key=key, **values))  # type: ignore[arg-type]  # same

    async def cancel(self, *keys: int) -> None:
        await self.send(cancel=worker_pb2.Cancel(keys=keys))

    async def cancel_output(self, key: int, index: int) -> None:
        output = worker_pb2.OutputKey(key=key, output_index=index)
        await self.send(cancel=worker_pb2.Cancel(outputs=[output]))

    async def read(self) -> worker_pb2.RunResponse:
        async with asyncio.timeout(30):
            response = await self.call.read()
        assert isinstance(response, worker_pb2.RunResponse), "the stream ended"
        self.sequence += 1
        assert response.sequence == self.sequence
        self.last_load = response.load
        return response

    async def first_item(self, key: int) -> worker_pb2.RunItem:
        while True:
            for item in (await self.read()).items:
                if item.key == key:
                    return item

    async def until_end(self, key: int) -> tuple[list[int], worker_pb2.RunItem]:
        """The ids that are still to come, and the item that ends the request."""
        ids: list[int] = []
        while True:
            item = await self.first_item(key)
            ids += item.token_ids
            if item.WhichOneof("end") is not None:
                return ids, item
