"""Serves an ASGI application over HTTP/1.1 inside this event loop.

granian: it limits headers in size and time, tells a disconnect within milliseconds, holds back a
writer whose client does not read, and leaves signals alone. Its own way to listen shares the port
(SO_REUSEPORT), so the socket is bound here: a busy port fails, and port 0 can tell its number.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.embed import Server
from starlette.types import ASGIApp

from gateway.openai.open_responses import OpenResponses
from octavo.rpc.server import AddressInUseError

_BACKLOG = 1024
# Not the limit on requests, which is the core's: past this, connections wait unanswered.
_MAX_CONNECTIONS = 16_384
# Also ends connections that are idle between requests.
_HEADER_TIME_MS = 10_000
_MAX_HEADER_BYTES = 64 * 1024
# How long connections may take to close once their responses have ended.
_CLOSE_S = 2.0


class HttpServer:
    """An application that is being served."""

    def __init__(self, server: _Embedded, open_responses: OpenResponses, port: int) -> None:
        self.port = port
        self._server = server
        self._open_responses = open_responses
        self._serving = asyncio.create_task(server.serve())

    async def close(self, grace_s: float) -> None:
        """Stops listening, lets open responses finish for `grace_s`, then ends the rest."""
        self._server.end()
        await self._open_responses.end_within(grace_s)
        done, _ = await asyncio.wait((self._serving,), timeout=_CLOSE_S)
        if not done:
            self._serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._serving


async def serve_http(app: ASGIApp, host: str, port: int) -> HttpServer:
    """Listens and serves; port 0 takes a free one. Raises AddressInUseError."""
    listener = _bind(host, port)
    bound_port: int = listener.getsockname()[1]
    open_responses = OpenResponses(app)
    return HttpServer(_embedded(open_responses, listener), open_responses, bound_port)


class _Embedded(Server):
    """granian's embedded server on a socket that is already bound."""

    def __init__(self, listener: socket.socket, **settings: Any) -> None:
        super().__init__(**settings)
        self._listener = listener

    def end(self) -> None:
        """Stops listening; open connections close once their responses have ended."""
        self.interrupt_signal = True
        self.main_loop_interrupt.set()

    def _init_shared_socket(self) -> None:
        # From here on granian owns, and closes, the descriptor.
        holder: Any = SocketHolder  # its stub lacks the arguments
        self._shd = holder(self._listener.detach(), False, _BACKLOG)


def _embedded(app: ASGIApp, listener: socket.socket) -> _Embedded:
    return _Embedded(
        listener,
        target=app,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        websockets=False,
        backlog=_BACKLOG,
        backpressure=_MAX_CONNECTIONS,
        http1_settings=HTTP1Settings(
            header_read_timeout=_HEADER_TIME_MS, max_buffer_size=_MAX_HEADER_BYTES
        ),
        log_level=LogLevels.error,  # it warns of being embedded at every start
        # Incremental: anything else would replace the process's own handlers.
        log_dictconfig={"incremental": True, "handlers": {}, "loggers": {}},
    )


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise AddressInUseError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    try:
        # For ports of connections that ended a moment ago; a second listener is still refused.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise AddressInUseError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    return listener
