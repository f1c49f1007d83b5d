"""Every exception as an HTTP answer in OpenAI's shape, whatever raised it."""

from __future__ import annotations

import http
from collections.abc import Mapping

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, ExceptionHandler, Message, Receive, Scope, Send

from gateway.openai.errors import ApiError, api_error, internal
from gateway.openai.json_text import json_bytes
from gateway.request_record import current_record
from octavo.errors import CancelledError, OctavoError

log = structlog.get_logger()


class LastResort:
    """ASGI middleware: an exception that nobody expected is logged here, and goes no further."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_started = False

        async def watched_send(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        try:
            await self._app(scope, receive, watched_send)
        except Exception:
            log.exception("request failed", path=scope.get("path"))
            if not has_started:
                await answer(internal())(scope, receive, send)


def answer(error: ApiError) -> Response:
    """The answer that carries `error`."""
    note_failure(error)
    return Response(
        json_bytes(error.body()),
        status_code=error.status,
        headers=error.headers,
        media_type="application/json",
    )


def note_failure(error: ApiError) -> None:
    """Says in the request's record how it is answered."""
    current_record().fail((error.code or error.kind).upper(), error.status)


async def _on_api_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return answer(error)


async def _on_octavo_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, OctavoError)
    return answer(api_error(error))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """The router's own refusals: 404 and 405."""
    assert isinstance(error, HTTPException)
    phrase = http.HTTPStatus(error.status_code).phrase
    message = f"{phrase}: {request.method} {request.url.path[:200]}"
    code = phrase.lower().replace(" ", "_")
    return answer(ApiError(error.status_code, message, code=code, headers=error.headers))


async def _on_disconnect(_: Request, __: Exception) -> Response:
    """Nobody is there to read it; servers and tests want an answer all the same."""
    return answer(api_error(CancelledError("The client is gone.")))


async def _on_anything(_: Request, __: Exception) -> Response:
    return answer(internal())


EXCEPTION_HANDLERS: Mapping[int | type[Exception], ExceptionHandler] = {
    ApiError: _on_api_error,
    OctavoError: _on_octavo_error,
    HTTPException: _on_http_exception,
    ClientDisconnect: _on_disconnect,
    Exception: _on_anything,
}
