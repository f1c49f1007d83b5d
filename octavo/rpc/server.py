"""The gRPC server that every process runs: services, health that follows, reflection."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from octavo.rpc.call_log import logged_call
from octavo.rpc.channel import INTERNAL_PING_TIMEOUT_S, MAX_MESSAGE_BYTES, keepalive_options
from octavo.rpc.interceptors import HandlerInterceptor

if TYPE_CHECKING:
    from octavo.rpc.call_log import CallObserver

HANDSHAKE_LIMIT_S = 10.0

_REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class AddressInUseError(OSError):
    """The address cannot be bound."""


class RpcServer:
    """One listener with its services, grpc.health.v1 and, unless switched off, reflection.

    Starts NOT_SERVING. `services` maps a full service name to what registers its servicer, and
    `observe` sees their calls. A connection that is older than `max_connection_age_s` takes no
    further calls: its client connects anew, and may be given another replica.
    """

    def __init__(
        self,
        *,
        address: str,
        services: Mapping[str, Callable[[grpc.aio.Server], None]],
        reflection: bool = True,
        reuse_port: bool = False,
        max_connection_age_s: float | None = None,
        handshake_limit_s: float = HANDSHAKE_LIMIT_S,
        ping_timeout_s: float = INTERNAL_PING_TIMEOUT_S,
        observe: CallObserver = logged_call,
    ) -> None:
        self._address = address
        self._names = ["", *services]
        self._health = health.aio.HealthServicer()
        self._server = grpc.aio.server(
            interceptors=(HandlerInterceptor(services, observe),),
            options=[
                *_options(reuse_port, max_connection_age_s, handshake_limit_s),
                *keepalive_options(ping_timeout_s),
            ],
        )
        for register in services.values():
            register(self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if reflection:
            _add_reflection(self._server, [*services, health.SERVICE_NAME])

    async def start(self) -> int:
        """Binds and listens; the port that is bound. Raises AddressInUseError."""
        await self.set_serving(False)
        try:
            port = self._server.add_insecure_port(self._address)
        except RuntimeError as error:
            raise AddressInUseError(
                f"cannot listen on {self._address}: the address is in use or not of this machine"
            ) from error
        await self._server.start()
        return port

    async def set_serving(self, serving: bool) -> None:
        """Says on grpc.health.v1, for the server and each service, whether calls are served."""
        for name in self._names:
            await self._health.set(name, _SERVING if serving else _NOT_SERVING)

    async def stop(self, grace_s: float) -> None:
        """Says NOT_SERVING, refuses new calls, gives open ones `grace_s`, then ends the rest."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)


def _options(
    reuse_port: bool, max_connection_age_s: float | None, handshake_limit_s: float
) -> list[tuple[str, Any]]:
    options: list[tuple[str, Any]] = [
        ("grpc.so_reuseport", int(reuse_port)),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        # The default is two minutes for a connection that never says what it wants.
        ("grpc.server_handshake_timeout_ms", int(1_000 * handshake_limit_s)),
        # Clients may ping a silent call every second; the default is to answer with GOAWAY.
        ("grpc.http2.min_ping_interval_without_data_ms", 500),
        ("grpc.http2.max_ping_strikes", 0),
    ]
    if max_connection_age_s is not None:
        options.append(("grpc.max_connection_age_ms", int(1_000 * max_connection_age_s)))
    return options


def _add_reflection(server: grpc.aio.Server, names: list[str]) -> None:
    """Reflection under both its names: clients of v1 exist, the library registers v1alpha only."""
    names = [*names, reflection.SERVICE_NAME, _REFLECTION_V1]
    servicer = reflection.aio.ReflectionServicer(names)
    reflection.enable_server_reflection(names, server)
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(_REFLECTION_V1, {"ServerReflectionInfo": handler}),)
    )
