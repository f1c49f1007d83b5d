"""The metrics listener of every process: Prometheus text at /metrics."""

from __future__ import annotations

import threading
from typing import Self
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server

from octavo.rpc.server import AddressInUseError


class MetricsServer:
    """Serves a registry over HTTP from a thread of its own."""

    def __init__(self, server: WSGIServer, thread: threading.Thread) -> None:
        self._server = server
        self._thread = thread

    @classmethod
    def start(cls, registry: CollectorRegistry, host: str, port: int) -> Self:
        """Listens on host:port (port 0: a free one). Raises AddressInUseError."""
        try:
            server, thread = start_http_server(port, addr=host, registry=registry)
        except OSError as error:
            raise AddressInUseError(f"cannot listen on {host}:{port}: {error.strerror}") from error
        return cls(server, thread)

    @property
    def port(self) -> int:
        """The port that is bound."""
        return self._server.server_port

    def close(self) -> None:
        """Stops listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
