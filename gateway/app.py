"""Runs a gateway: the gRPC door, the HTTP door and /metrics, until a signal; then the drain."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass

import structlog

from gateway.assembly import CLOSE_GRACE_S, Gateway
from gateway.config import GatewaySettings
from gateway.openai.app import create_app
from gateway.openai.server import serve_http
from octavo.metrics import MetricsServer
from octavo.ready_file import write_ready_file
from octavo.rpc.server import wait_for_shutdown

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True, slots=True)
class BoundPorts:
    """The ports that a gateway listens on."""

    http_port: int
    grpc_port: int
    metrics_port: int


async def run(settings: GatewaySettings) -> None:
    """Serves until SIGTERM or SIGINT, then drains; OSError where a port is in use."""
    gateway = Gateway(settings)
    async with (
        gateway.serving() as grpc_port,
        _http_and_metrics(gateway, settings) as (http, metrics),
    ):
        ports = BoundPorts(http_port=http, grpc_port=grpc_port, metrics_port=metrics)
        log.info("listening", host=settings.host, **asdict(ports))
        write_ready_file(settings.ready_file, **asdict(ports))
        await wait_for_shutdown()
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
        metrics.close()
