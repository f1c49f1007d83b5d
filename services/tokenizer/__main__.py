"""The tokenizer service: `python -m services.tokenizer --model FOLDER` (`--help`: the flags)."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

import structlog

from octavo.environment import warn_of_unknown_variables
from octavo.errors import OctavoError
from octavo.logs import configure_logs
from octavo.metrics import MetricsServer
from octavo.ready_file import write_ready_file
from octavo.rpc.admin import administered
from octavo.rpc.server import RpcServer
from octavo.rpc.shutdown import Shutdown
from octavo.settings import fail
from octavo.v1 import tokenizer_pb2_grpc
from services.tokenizer.admin import TokenizerAdmin
from services.tokenizer.config import PROGRAM, TokenizerSettings
from services.tokenizer.metrics import TokenizerMetrics
from services.tokenizer.server import TOKENIZER_SERVICE, TokenizerService

log = structlog.get_logger()

# Streams of gateways stay open while they are idle; once no decoder is open they are ended.
_LAST_CALLS_S = 1.0


async def serve(settings: TokenizerSettings) -> None:
    """Serves until the first signal or an operator's call, then lets open calls finish."""
    metrics = TokenizerMetrics()
    service = TokenizerService(settings, metrics)
    server = _server(settings, service, metrics)
    # First, since a port that is taken ends the process before anything else is open.
    metrics_server = MetricsServer.start(metrics.registry, settings.host, settings.metrics_port)
    try:
        await _serve_and_drain(settings, service, server, metrics_server.port)
    finally:
        await server.stop(_LAST_CALLS_S)
        await service.close()
        await asyncio.to_thread(metrics_server.close)
    log.info("stopped")


async def _serve_and_drain(
    settings: TokenizerSettings, service: TokenizerService, server: RpcServer, metrics_port: int
) -> None:
    shutdown = Shutdown()
    admin = TokenizerAdmin(service)
    async with administered(settings.admin_address, "tokenizer", admin, shutdown) as admin_port:
        port = await server.start()
        await service.start()
        await server.set_serving(True)
        log.info("serving", address=f"{settings.host}:{port}", model=str(settings.folder))
        ports = {"port": port, "metrics_port": metrics_port, **admin_port}
        write_ready_file(settings.ready_file, **ports)
        await shutdown.wait()
        log.info("draining", open=service.num_open, limit_s=settings.drain_limit_s)
        await server.set_serving(False)
        await service.drain(settings.drain_limit_s)


def _server(
    settings: TokenizerSettings, service: TokenizerService, metrics: TokenizerMetrics
) -> RpcServer:
    return RpcServer(
        address=f"{settings.host}:{settings.port}",
        services={
            TOKENIZER_SERVICE: lambda grpc_server: (
                tokenizer_pb2_grpc.add_TokenizerServiceServicer_to_server(service, grpc_server)
            )
        },
        observe=metrics.call,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """0 after a drain; exits with 2 and one line where the user can put it right."""
    settings = TokenizerSettings.load(argv, prog=PROGRAM)
    configure_logs("tokenizer", format=settings.log_format, level=settings.log_level)
    warn_of_unknown_variables()
    try:
        asyncio.run(serve(settings.with_folder()))
    except (OctavoError, OSError) as error:
        fail(PROGRAM, str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
