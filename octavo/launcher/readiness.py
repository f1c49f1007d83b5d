"""When a service serves, and how far it is until then."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from octavo.rpc.channel import open_channel
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
    async with open_channel(address) as channel:
        stub = worker_pb2_grpc.WorkerServiceStub(channel)
        while True:
            try:
                request = worker_pb2.GetHealthRequest()
                health = await stub.GetHealth(request, timeout=_CALL_LIMIT_S)
            except grpc.aio.AioRpcError:
                health = worker_pb2.GetHealthResponse()
            if health.state == worker_pb2.WORKER_STATE_SERVING:
                return
            on_progress(loading_text(health))
            await asyncio.sleep(_POLL_S)


def loading_text(health: worker_pb2.GetHealthResponse) -> str:
    """How far the slowest loading rank is, or what the group says of itself."""
    loading = [rank for rank in health.ranks if rank.WhichOneof("activity") == "loading"]
    if not loading:
        return health.message
    slowest = min(loading, key=_loaded_part)
    progress = slowest.loading
    if not progress.total_bytes:
        return progress.stage
    loaded, total = progress.loaded_bytes / 1e6, progress.total_bytes / 1e6
    rank = f"rank {slowest.rank}: " if len(health.ranks) > 1 else ""
    return f"{rank}{progress.stage} {loaded:.1f} / {total:.1f} MB"


def _read_ports(ready_file: Path) -> dict[str, int] | None:
    """What a service wrote down; None until it did."""
    if not ready_file.exists():
        return None
    ports: dict[str, int] = json.loads(ready_file.read_text(encoding="utf-8"))
    return ports


def _loaded_part(rank: worker_pb2.RankHealth) -> float:
    return rank.loading.loaded_bytes / max(rank.loading.total_bytes, 1)


async def _is_serving(stub: Any) -> bool:
    try:
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=_CALL_LIMIT_S)
    except grpc.aio.AioRpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
