"""Lets web pages of other origins call the API, where the operator names them.

Without it browsers refuse such pages; everybody else is not concerned.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from gateway.openai.error_answers import answer
from gateway.openai.errors import ApiError

_READABLE_HEADERS = ("x-request-id", "retry-after", "retry-after-ms")


class Cors(CORSMiddleware):
    """ASGI middleware; no cookies, for the API knows none."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=("GET", "POST"),
            allow_headers=("*",),
            expose_headers=_READABLE_HEADERS,
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """A refusal has the same body as any other."""
        response = super().preflight_response(request_headers)
        if response.status_code < 400:
            return response
        message = f"{bytes(response.body).decode()}."
        return answer(ApiError(response.status_code, message, code="cors_refused"))
