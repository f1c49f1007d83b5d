"""The ASGI application: routes, and the layers around them.

AccessLog > RequestId > Cors > RequestIdCheck > LastResort > Starlette, in which
BodyLimit > exceptions as answers > route
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route
from starlette.types import ASGIApp

from gateway.metrics import GatewayMetrics
from gateway.openai.access_log import AccessLog
from gateway.openai.body import BodyReader
from gateway.openai.body_limit import BodyLimit
from gateway.openai.core import Generation, Tokenization
from gateway.openai.cors import Cors
from gateway.openai.docs_endpoints import DocsEndpoints
from gateway.openai.endpoints import Endpoints
from gateway.openai.error_answers import EXCEPTION_HANDLERS, LastResort
from gateway.openai.limits import HttpLimits
from gateway.openai.request_id import RequestId, RequestIdCheck
from gateway.openai.tokenize_endpoints import TokenizeEndpoints
from gateway.request_log import RequestLog


def create_app(
    generation: Generation,
    tokenization: Tokenization,
    *,
    limits: HttpLimits | None = None,
    request_log: RequestLog | None = None,
    cors_origins: Sequence[str] = (),
    has_docs: bool = True,
) -> ASGIApp:
    """The HTTP door to the core. Web pages of `cors_origins` may call it; "*" stands for any.
    `has_docs`: whether it describes itself.
    """
    limits = limits or HttpLimits()
    app = Starlette(
        routes=[*_routes(generation, tokenization, limits), *(_docs_routes() if has_docs else [])],
        middleware=[Middleware(BodyLimit, limits)],
        exception_handlers=EXCEPTION_HANDLERS,
    )
    # A redirect to the path without its slash would be an answer without an error body.
    app.router.redirect_slashes = False
    request_log = request_log or RequestLog(GatewayMetrics())
    safe = RequestIdCheck(LastResort(app))
    shared = Cors(safe, cors_origins) if cors_origins else safe
    return AccessLog(RequestId(shared), request_log, app.routes)


def _routes(generation: Generation, tokenization: Tokenization, limits: HttpLimits) -> list[Route]:
    bodies = BodyReader()
    endpoints = Endpoints(generation, bodies, limits)
    tokenize_endpoints = TokenizeEndpoints(tokenization, bodies)
    return [
        Route("/v1/chat/completions", endpoints.create_chat_completion, methods=["POST"]),
        Route("/v1/completions", endpoints.create_completion, methods=["POST"]),
        Route("/v1/models", endpoints.list_models, methods=["GET"]),
        Route("/v1/models/{id:path}", endpoints.get_model, methods=["GET"]),
        Route("/v1/tokenize", tokenize_endpoints.tokenize, methods=["POST"]),
        Route("/v1/detokenize", tokenize_endpoints.detokenize, methods=["POST"]),
        Route("/health", endpoints.get_health, methods=["GET"]),
    ]


def _docs_routes() -> list[Route]:
    endpoints = DocsEndpoints()
    return [
        Route("/openapi.json", endpoints.get_description, methods=["GET"]),
        Route("/docs", endpoints.get_page, methods=["GET"]),
    ]
