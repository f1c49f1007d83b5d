"""x-request-id, in and out: in the log lines of the request, in its answer, in the core."""

from __future__ import annotations

import re
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.openai.error_answers import answer
from gateway.openai.errors import invalid
from octavo.rpc.request_id import REQUEST_ID_KEY, bind_request_id

HEADER = REQUEST_ID_KEY
_PATTERN = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)
_LIMIT = "1 to 128 characters of [A-Za-z0-9._:-]"
_STATE = "request_id"


class RequestId:
    """ASGI middleware: takes the client's id, or draws one where it has none that fits."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(HEADER)
        request_id = given if given is not None and _fits(given) else uuid.uuid4().hex
        scope.setdefault("state", {})[_STATE] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[HEADER] = request_id
            await send(message)

        bind_request_id(request_id)
        await self._app(scope, receive, send_with_id)


class RequestIdCheck:
    """ASGI middleware: refuses what would not fit in a log, inside of Cors: pages can read it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = Headers(scope=scope).get(HEADER) if scope["type"] == "http" else None
        app = self._app if given is None or _fits(given) else answer(invalid(HEADER, given, _LIMIT))
        await app(scope, receive, send)


def request_id_of(request: Request) -> str:
    """The id that this request goes by."""
    request_id = request.scope["state"][_STATE]
    assert isinstance(request_id, str)
    return request_id


def _fits(given: str) -> bool:
    return _PATTERN.fullmatch(given) is not None
