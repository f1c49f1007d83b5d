"""The origins of web pages, as an operator names those that may call the HTTP API."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

WEB_ORIGIN_HELP = (
    "Origin of web pages that may call the HTTP API, such as https://chat.example.com; repeatable;"
    " * for any. Absent: none."
)

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#\s]+")


def _check_origins(origins: list[str]) -> list[str]:
    """An origin is compared as a whole: one with a path would never match."""
    for origin in origins:
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise ValueError(f"{origin!r} is not scheme://host or scheme://host:port")
    return origins


# Each is scheme://host or scheme://host:port, or * for any.
WebOrigins = Annotated[list[str], AfterValidator(_check_origins)]
