"""The HTTP listener of /metrics: few connections at a time, none of them for long.

Its readers are a handful of collectors. Whoever else connects, and says nothing, must cost no more.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

MAX_CONNECTIONS = 16
CONNECTION_LIMIT_S = 10.0  # for each read and write


class MetricsListener(ThreadingMixIn, WSGIServer):
    """Answers GET /metrics; a connection past the limit is closed at once."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128  # connections that wait to be seen

    def __init__(self, host: str, port: int, registry: CollectorRegistry) -> None:
        """Raises OSError where the address cannot be bound."""
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)
        self._places = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self.set_app(_only_metrics(make_wsgi_app(registry)))

    def server_bind(self) -> None:
        """As the parent, without asking DNS for the name of the host."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "metrics", self.server_address[1]
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Gives the connection a thread, where there is a place."""
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Runs in that thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class _Handler(WSGIRequestHandler):
    timeout = CONNECTION_LIMIT_S

    def log_message(self, format: str, *arguments: Any) -> None:
        """Scrapes are not logged."""


Application = Callable[[dict[str, Any], Any], Iterable[bytes]]


def _only_metrics(application: Any) -> Application:
    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ.get("PATH_INFO") in ("/metrics", "/"):
            answered: Iterable[bytes] = application(environ, start_response)
            return answered
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"Metrics are at /metrics.\n"]

    return answer
