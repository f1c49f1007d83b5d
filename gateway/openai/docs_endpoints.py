"""/openapi.json and /docs: what the API takes and gives, made once."""

from __future__ import annotations

import functools

from starlette.requests import Request
from starlette.responses import Response

from gateway.openai.api_description import describe_api
from gateway.openai.docs_page import docs_page
from gateway.openai.json_text import json_bytes
from octavo import __version__

# The page needs nothing but its own style; whatever else came into it would stay dead.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"


class DocsEndpoints:
    """The functions of both routes."""

    def __init__(self) -> None:
        self._json, self._page = _rendered()

    async def get_description(self, request: Request) -> Response:
        """GET /openapi.json."""
        return Response(self._json, media_type="application/json")

    async def get_page(self, request: Request) -> Response:
        """GET /docs."""
        headers = {"content-security-policy": _POLICY}
        return Response(self._page, media_type="text/html", headers=headers)


@functools.cache
def _rendered() -> tuple[bytes, bytes]:
    """The description and the page, which are the same for all applications of a process."""
    description = describe_api(__version__)
    return json_bytes(description), docs_page(description).encode()
