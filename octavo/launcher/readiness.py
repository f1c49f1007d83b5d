"""When a service serves, and how far it is until then."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from octavo.rpc.channel import open_channel
from octavo.time_left import time_left_s
from octavo.v1 import worker_pb2, worker_pb2_grpc

_POLL_S = 0.05
_CALL_LIMIT_S = 2.0


async def ports_of(ready_file: Path) -> dict[str, int]:
    """Waits until a service has bound its ports and written them down."""
    while (ports := _read_ports(ready_file)) is None:  # noqa: ASYNC110 - another process writes it
        await asyncio.sleep(_POLL_S)
    return ports


async def serving(address: str) -> None:
    """Waits until grpc.health.v1 at `address` says SERVING."""
    async with open_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # its stubs name no methods
        while not await _is_serving(stub):  # noqa: ASYNC110 - another process decides
            await asyncio.sleep(_POLL_S)


async def follow_loading(address: str, on_progress: Callable[[str], None]) -> None:
    """Says how far the worker group at `address` is, until it serves."""
    started_at: float | None = None
    async with open_channel(address) as channel:
        while True:
            health = await _health(channel)
            if health.state == worker_pb2.WORKER_STATE_SERVING:
                return
            if started_at is None and _loaded_bytes(health):
                started_at = time.monotonic()
            elapsed_s = 0.0 if started_at is None else time.monotonic() - started_at
            on_progress(loading_text(health, elapsed_s))
            await asyncio.sleep(_POLL_S)


async def follow_serving(address: str, on_change: Callable[[str | None], None]) -> None:
    """Tells each time the worker group at `address` ceases to serve, with what it says of itself,
    and None each time it serves again. Ends with the connection.
    """
    async with open_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # its stubs name no methods
        was_serving = True
        with contextlib.suppress(grpc.aio.AioRpcError):
            async for answer in stub.Watch(health_pb2.HealthCheckRequest()):
                is_serving = answer.status == health_pb2.HealthCheckResponse.SERVING
                if is_serving != was_serving:
                    on_change(None if is_serving else (await _health(channel)).message)
                was_serving = is_serving


def loading_text(health: worker_pb2.GetHealthResponse, elapsed_s: float = 0.0) -> str:
    """How far the slowest loading rank is, or what the group says of itself.

    elapsed_s: since the first bytes were loaded.
    """
    loading = [rank for rank in health.ranks if rank.WhichOneof("activity") == "loading"]
    if not loading:
        return health.message
    slowest = min(loading, key=_loaded_part)
    progress = slowest.loading
    stage = progress.stage.removeprefix("loading ")  # the step is called so already
    if not progress.total_bytes:
        return stage
    loaded, total = progress.loaded_bytes / 1e6, progress.total_bytes / 1e6
    rank = f"rank {slowest.rank}: " if len(health.ranks) > 1 else ""
    left_s = time_left_s(
        elapsed_s=elapsed_s, done=progress.loaded_bytes, total=progress.total_bytes
    )
    left = "" if left_s is None else f", {left_s:.0f} s left"
    return f"{rank}{stage} {loaded:.1f} / {total:.1f} MB{left}"


async def _health(channel: grpc.aio.Channel) -> worker_pb2.GetHealthResponse:
    """What a worker group says of itself; nothing where it does not answer."""
    stub = worker_pb2_grpc.WorkerServiceStub(channel)
    try:
        return await stub.GetHealth(worker_pb2.GetHealthRequest(), timeout=_CALL_LIMIT_S)
    except grpc.aio.AioRpcError:
        return worker_pb2.GetHealthResponse()


def _read_ports(ready_file: Path) -> dict[str, int] | None:
    """What a service wrote down; None until it did."""
    if not ready_file.exists():
        return None
    ports: dict[str, int] = json.loads(ready_file.read_text(encoding="utf-8"))
    return ports


def _loaded_bytes(health: worker_pb2.GetHealthResponse) -> int:
    return sum(rank.loading.loaded_bytes for rank in health.ranks)


def _loaded_part(rank: worker_pb2.RankHealth) -> float:
    return rank.loading.loaded_bytes / max(rank.loading.total_bytes, 1)


async def _is_serving(stub: Any) -> bool:
    try:
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=_CALL_LIMIT_S)
    except grpc.aio.AioRpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
