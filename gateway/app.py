"""Runs a gateway: the gRPC door, the HTTP door and /metrics, until a signal; then the drain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from gateway.admin import GatewayAdmin
from gateway.assembly import CLOSE_GRACE_S, Gateway
from gateway.config import GatewaySettings
from gateway.openai.app import create_app
from gateway.openai.limits import HttpLimits
from gateway.openai.server import serve_http
from octavo.metrics import MetricsServer
from octavo.ready_file import write_ready_file
from octavo.rpc.admin import administered
from octavo.rpc.shutdown import Shutdown

log = structlog.get_logger()

# What a byte of a prompt may take in JSON, escapes and the rest of the body included.
_BODY_BYTES_EACH = 4


async def run(settings: GatewaySettings) -> None:
    """Serves until SIGTERM, SIGINT or an operator's call, then drains; OSError for a busy port."""
    gateway = Gateway(settings)
    shutdown = Shutdown()
    admin = GatewayAdmin(gateway.generation, gateway.admission)
    async with (
        administered(settings.admin_address, "gateway", admin, shutdown) as admin_port,
        gateway.serving() as grpc_port,
        _http_and_metrics(gateway, settings) as (http, metrics),
    ):
        ports = {"http_port": http, "grpc_port": grpc_port, "metrics_port": metrics, **admin_port}
        log.info("listening", host=settings.host, **ports)
        write_ready_file(settings.ready_file, **ports)
        await shutdown.wait()
        await gateway.drain()


@asynccontextmanager
async def _http_and_metrics(
    gateway: Gateway, settings: GatewaySettings
) -> AsyncIterator[tuple[int, int]]:
    """The other two listeners, closed at the end; gives their ports."""
    registry = gateway.metrics.registry
    metrics = MetricsServer.start(registry, settings.host, settings.metrics_port)
    try:
        app = create_app(
            gateway.generation,
            gateway.tokenization,
            limits=HttpLimits(
                max_body_bytes=_BODY_BYTES_EACH * settings.max_prompt_bytes,
                max_outputs=settings.max_requests,
            ),
            request_log=gateway.request_log,
            cors_origins=settings.cors_origin,
            has_docs=settings.docs,
        )
        http = await serve_http(app, settings.host, settings.http_port)
        try:
            yield http.port, metrics.port
        finally:
            await http.close(CLOSE_GRACE_S)
    finally:
        await asyncio.to_thread(metrics.close)
