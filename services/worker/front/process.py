"""The life of the front's process: listen, start the ranks, serve, drain, stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys

import structlog

from octavo.fingerprint import checkpoint_fingerprint, tokenizer_fingerprint
from octavo.metrics import MetricsServer, process_registry
from octavo.ready_file import write_ready_file
from octavo.rpc.admin import administered
from octavo.rpc.server import RpcServer
from octavo.rpc.shutdown import Shutdown
from octavo.v1 import worker_pb2_grpc
from services.worker.config import WorkerSettings
from services.worker.front.admin import GroupAdmin
from services.worker.front.admission import Admission, Limits
from services.worker.front.description import Served
from services.worker.front.generation import GenerationConfig
from services.worker.front.group import Group
from services.worker.front.metrics import GroupCollector
from services.worker.front.request_watch import RequestWatch
from services.worker.front.server import SERVICE_NAME, WorkerService
from services.worker.front.submit_check import MAX_OUTPUTS
from services.worker.link.rank_config import RankConfig

log = structlog.get_logger()

HEARTBEAT_MS = 250
LAST_WORDS_S = 1.0  # for streams to read why they end


async def serve(settings: WorkerSettings, kv_cache_bytes: int) -> None:
    """Serves until SIGTERM, SIGINT or an operator's call, then drains.

    Raises AddressInUseError for a busy port, GroupFailedError when the ranks cannot be started.
    """
    registry = process_registry("worker")
    group = Group(
        _generation_config(settings, kv_cache_bytes),
        max_restarts=settings.max_restarts,
        on_serving=lambda serving: server.set_serving(serving),  # noqa: PLW0108 - made below
        watch=RequestWatch(registry),
        admission=Admission(_limits(settings)),
        # All outputs of a request run at once while they are one.
        max_outputs=min(MAX_OUTPUTS, settings.max_running),
    )
    registry.register(GroupCollector(group))
    service = WorkerService(group, await asyncio.to_thread(_served, settings))
    server = RpcServer(
        address=f"{settings.host}:{settings.port}",
        services={
            SERVICE_NAME: lambda on: worker_pb2_grpc.add_WorkerServiceServicer_to_server(
                service, on
            )
        },
    )
    metrics = MetricsServer.start(registry, settings.host, settings.metrics_port)
    shutdown = Shutdown()
    admin = administered(settings.admin_address, "worker", GroupAdmin(group), shutdown)
    try:
        async with admin as admin_port:
            port = await server.start()
            _announce(settings, {"port": port, "metrics_port": metrics.port, **admin_port})
            await _run(group, shutdown, settings.drain_limit_s)
    finally:
        await server.stop(LAST_WORDS_S)
        await asyncio.to_thread(metrics.close)


async def _run(group: Group, shutdown: Shutdown, drain_limit_s: float) -> None:
    """Keeps the ranks alive until asked to end, then drains; raises what ends them before."""
    running = asyncio.create_task(group.run())
    asked = asyncio.create_task(shutdown.wait())
    try:
        await asyncio.wait({running, asked}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
        log.info("draining", open=group.num_requests, limit_s=drain_limit_s)
        await group.drain(drain_limit_s)
    finally:
        asked.cancel()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    log.info("stopped")


def _served(settings: WorkerSettings) -> Served:
    return Served(
        model_name=settings.served_name,
        checkpoint_fingerprint=checkpoint_fingerprint(settings.folder),
        tokenizer_fingerprint=tokenizer_fingerprint(settings.folder),
        max_step_tokens=settings.max_step_tokens,
        max_running=settings.max_running,
        max_waiting=settings.max_waiting,
        max_waiting_prompt_tokens=settings.max_waiting_prompt_tokens,
    )


def _limits(settings: WorkerSettings) -> Limits:
    return Limits(
        max_running=settings.max_running,
        max_step_tokens=settings.max_step_tokens,
        max_waiting=settings.max_waiting,
        max_waiting_prompt_tokens=settings.max_waiting_prompt_tokens,
    )


def _generation_config(settings: WorkerSettings, kv_cache_bytes: int) -> GenerationConfig:
    return GenerationConfig(
        command=launch_command(settings.num_devices, "services.worker.rank"),
        num_ranks=settings.num_devices,
        make_rank_config=lambda path, generation: _rank_config(
            settings, socket_path=path, generation=generation, kv_bytes=kv_cache_bytes
        ),
        heartbeat_limit_s=settings.heartbeat_limit_ms / 1000,
        start_limit_s=settings.start_limit_s,
    )


def _rank_config(
    settings: WorkerSettings, *, socket_path: str, generation: int, kv_bytes: int
) -> RankConfig:
    """What the ranks of one generation are told."""
    return RankConfig(
        socket_path=socket_path,
        generation=generation,
        num_ranks=settings.num_devices,
        model=str(settings.folder.resolve()),
        device=settings.device,
        dtype=settings.dtype,
        kernels=settings.kernels,
        fp8_weights=settings.quantization is not None,
        fp8_activations=settings.activation_dtype == "fp8",
        fp8_kv_cache=settings.kv_cache_dtype == "fp8",
        # Those that this process may use: a container's share, not the machine's.
        threads=settings.threads or len(os.sched_getaffinity(0)),
        block_tokens=settings.block_tokens,
        kv_cache_memory_bytes=kv_bytes,
        max_step_tokens=settings.max_step_tokens,
        max_running=settings.max_running,
        max_waiting=settings.max_waiting,
        max_waiting_prompt_tokens=settings.max_waiting_prompt_tokens,
        max_context=settings.max_context,
        step_limit_ms=settings.step_limit_ms,
        heartbeat_ms=HEARTBEAT_MS,
        log_format=settings.log_format,
        log_level=settings.log_level,
    )


def launch_command(num_ranks: int, rank_module: str) -> list[str]:
    """The command of one generation's launcher."""
    launch = [sys.executable, "-m", "services.worker.launch"]
    options = ["--num-ranks", str(num_ranks), "--rank-module", rank_module]
    return [*launch, *options, "--run-id", f"octavo-{os.getpid()}"]


def _announce(settings: WorkerSettings, ports: dict[str, int]) -> None:
    log.info("listening", host=settings.host, model=settings.served_name, **ports)
    write_ready_file(settings.ready_file, **ports)
