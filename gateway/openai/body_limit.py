"""Bounds what a body may weigh, in how many pieces it comes, and for how long. No Python HTTP
server does.

The check sits in `receive`, so that its error is raised where the body is read, and answered like
any other; bodies that nobody reads cost nothing.
"""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.openai.errors import ApiError
from gateway.openai.limits import HttpLimits


class BodyLimit:
    """ASGI middleware: reading a body past its limits raises ApiError 413 or 408."""

    def __init__(self, app: ASGIApp, limits: HttpLimits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            receive = _LimitedReceive(receive, Headers(scope=scope), self._limits)
        await self._app(scope, receive, send)


class _LimitedReceive:
    """`receive` of one request."""

    def __init__(self, receive: Receive, headers: Headers, limits: HttpLimits) -> None:
        self._receive = receive
        self._limits = limits
        self._declared_bytes = headers.get("content-length", "0")
        self._num_bytes = 0
        self._num_pieces = 0
        self._deadline: float | None = None
        self._is_complete = False

    async def __call__(self) -> Message:
        if self._is_complete:
            return await self._receive()
        self._check_declared()
        message = await self._receive_in_time()
        self._num_bytes += len(message.get("body", b""))
        self._num_pieces += 1
        if self._num_bytes > self._limits.max_body_bytes:
            raise self._too_large()
        if self._num_pieces > self._limits.max_body_pieces:
            raise self._too_many_pieces()
        self._is_complete = not message.get("more_body", False)
        return message

    def _check_declared(self) -> None:
        declared = self._declared_bytes
        # More digits than any length has are too many bytes, whatever the number is.
        if declared.isdecimal() and (
            len(declared) > 18 or int(declared) > self._limits.max_body_bytes
        ):
            raise self._too_large()

    async def _receive_in_time(self) -> Message:
        if self._deadline is None:
            self._deadline = asyncio.get_running_loop().time() + self._limits.body_time_s
        try:
            async with asyncio.timeout_at(self._deadline):
                return await self._receive()
        except TimeoutError:
            message = f"The body did not arrive within {self._limits.body_time_s:g} s."
            headers = {"connection": "close"}
            raise ApiError(408, message, code="body_timeout", headers=headers) from None

    def _too_many_pieces(self) -> ApiError:
        limit = self._limits.max_body_pieces
        message = f"The body came in more than {limit} pieces; send larger ones."
        headers = {"connection": "close"}
        return ApiError(413, message, code="body_in_pieces", headers=headers)

    def _too_large(self) -> ApiError:
        message = f"The body is larger than the limit of {self._limits.max_body_bytes} bytes."
        return ApiError(413, message, code="body_too_large", headers={"connection": "close"})
