"""The parts of a gateway put together: clients of the other services, generation, the gRPC door."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import grpc.aio
import structlog

from gateway.accepted_fields import capabilities
from gateway.admission import Admission
from gateway.config import GatewaySettings
from gateway.generation import Generation
from gateway.grpc_api.generation_service import GenerationService
from gateway.grpc_api.model_service import ModelService
from gateway.live_metrics import LiveCollector
from gateway.metrics import GatewayMetrics
from gateway.request_log import RequestLog
from gateway.routing import Routing
from gateway.tokenization import Tokenization
from octavo.client.addresses import parse_target
from octavo.client.services.replicas import Replicas
from octavo.client.services.tokenizer import TokenizerClient
from octavo.client.services.tokenizer_pool import TokenizerPool
from octavo.client.services.worker import WorkerClient
from octavo.errors import UnavailableError
from octavo.rpc.channel import PUBLIC_PING_TIMEOUT_S
from octavo.rpc.server import RpcServer
from octavo.v1 import generation_pb2_grpc

log = structlog.get_logger()

# What open calls get to write their last message once their generations were ended.
CLOSE_GRACE_S = 1.0
RETRY_DELAY_MS = 1_000


class Gateway:
    """What one gateway process holds, without its HTTP and metrics listeners."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        gateway_id = uuid.uuid4().hex
        self.workers = Replicas(
            [parse_target(address) for address in settings.worker],
            partial(WorkerClient, gateway_id=gateway_id),
        )
        self.tokenizers = Replicas(
            [parse_target(address) for address in settings.tokenizer], TokenizerClient
        )
        self._pool = TokenizerPool(self.tokenizers, wait_s=settings.tokenizer_wait_s)
        accepted = capabilities(
            max_prompt_bytes=settings.max_prompt_bytes,
            max_session_requests=settings.max_session_requests,
        )
        self._routing = Routing(workers=self.workers, tokenizers=self._pool, capabilities=accepted)
        self.admission = Admission(
            max_requests=settings.max_requests, max_bytes=settings.max_request_bytes
        )
        self.metrics = GatewayMetrics()
        self.metrics.registry.register(
            LiveCollector(
                admission=self.admission, workers=self.workers, tokenizers=self.tokenizers
            )
        )
        self.request_log = RequestLog(self.metrics)
        self.generation = Generation(
            routing=self._routing,
            admission=self.admission,
            capabilities=accepted,
            metrics=self.metrics,
        )
        self.tokenization = Tokenization(
            routing=self._routing, max_prompt_bytes=settings.max_prompt_bytes
        )
        self._server = self._grpc_server()
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        """Serves gRPC inside the block, on the port that it gives; OSError where that is in use."""
        port = await self._server.start()
        for replicas in (self.workers, self.tokenizers):
            replicas.start(self._note_change)
        reporter = asyncio.create_task(self._report_readiness())
        try:
            yield port
        finally:
            await self._server.stop(CLOSE_GRACE_S if self.admission.is_draining else 0)
            reporter.cancel()
            await asyncio.gather(self.workers.close(), self.tokenizers.close())

    async def drain(self) -> None:
        """Refuses what is new, lets what is open finish up to the limit, then ends the rest."""
        self.admission.drain()
        await self._server.set_serving(False)
        limit_s = self._settings.drain_limit_s
        log.info("draining", open=self.admission.num_requests, limit_s=limit_s)
        try:
            async with asyncio.timeout(limit_s):
                await self.admission.wait_until_idle()
        except TimeoutError:
            log.warning("drain limit reached", open=self.admission.num_requests)
        self.generation.open.end_all(_drained())

    async def _report_readiness(self) -> None:
        """Keeps grpc.health.v1 equal to is_ready."""
        while True:
            self._changed.clear()
            await self._server.set_serving(self.generation.is_ready())
            await self._changed.wait()

    def _note_change(self) -> None:
        self._pool.note_change()
        self._changed.set()

    def _grpc_server(self) -> RpcServer:
        settings = self._settings
        return RpcServer(
            address=f"{settings.host}:{settings.grpc_port}",
            services={
                "octavo.v1.GenerationService": self._register_generation,
                "octavo.v1.ModelService": self._register_models,
            },
            reflection=settings.reflection,
            max_connection_age_s=settings.max_connection_age_s,
            ping_timeout_s=PUBLIC_PING_TIMEOUT_S,
            observe=self.request_log.call,
        )

    def _register_generation(self, server: grpc.aio.Server) -> None:
        service = GenerationService(
            self.generation,
            self.tokenization,
            self.request_log,
            max_session_requests=self._settings.max_session_requests,
        )
        generation_pb2_grpc.add_GenerationServiceServicer_to_server(service, server)

    def _register_models(self, server: grpc.aio.Server) -> None:
        service = ModelService(self.generation)
        generation_pb2_grpc.add_ModelServiceServicer_to_server(service, server)


def _drained() -> UnavailableError:
    return UnavailableError(
        "This gateway ended before the request did.",
        reason="DRAINED",
        retry_delay_ms=RETRY_DELAY_MS,
    )
