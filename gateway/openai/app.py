"""The ASGI application: routes, and the layers around them.

AccessLog > RequestId > LastResort > (Starlette: BodyLimit > exceptions as answers > the route)
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route
from starlette.types import ASGIApp

from gateway.metrics import GatewayMetrics
from gateway.openai.access_log import AccessLog
from gateway.openai.body_limit import BodyLimit
from gateway.openai.endpoints import Endpoints
from gateway.openai.error_answers import EXCEPTION_HANDLERS, LastResort
from gateway.openai.generation_protocol import Generation
from gateway.openai.limits import HttpLimits
from gateway.openai.request_id import RequestId
from gateway.request_log import RequestLog


def create_app(
    generation: Generation,
    limits: HttpLimits | None = None,
    request_log: RequestLog | None = None,
) -> ASGIApp:
    """The HTTP door to `generation`."""
    limits = limits or HttpLimits()
    endpoints = Endpoints(generation, limits)
    app = Starlette(
        routes=[
            Route("/v1/chat/completions", endpoints.create_chat_completion, methods=["POST"]),
            Route("/v1/completions", endpoints.create_completion, methods=["POST"]),
            Route("/v1/models", endpoints.list_models, methods=["GET"]),
            Route("/v1/models/{id:path}", endpoints.get_model, methods=["GET"]),
            Route("/health", endpoints.get_health, methods=["GET"]),
        ],
        middleware=[Middleware(BodyLimit, limits)],
        exception_handlers=EXCEPTION_HANDLERS,
    )
    # A redirect to the path without its slash would be an answer without an error body.
    app.router.redirect_slashes = False
    request_log = request_log or RequestLog(GatewayMetrics())
    return AccessLog(RequestId(LastResort(app)), request_log, app.routes)
