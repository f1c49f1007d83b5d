"""The line and the counters of each request over HTTP."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.request_log import RequestLog

# Probes come every second or so, and say nothing of anybody's request.
_QUIET = "/health"
# Paths are the client's to choose, names of metrics are not.
_NO_ROUTE = "other"


class AccessLog:
    """ASGI middleware: opens the record of each request, and closes it with its line."""

    def __init__(self, app: ASGIApp, request_log: RequestLog, routes: Iterable[BaseRoute]) -> None:
        self._app = app
        self._request_log = request_log
        self._paths: Mapping[Any, str] = {
            route.endpoint: route.path for route in routes if isinstance(route, Route)
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == _QUIET:
            await self._app(scope, receive, send)
            return
        with self._request_log.request(_NO_ROUTE) as record:
            try:
                await self._app(scope, receive, send)
            finally:  # the router has left its choice in the scope
                record.method = self._paths.get(scope.get("endpoint"), _NO_ROUTE)
