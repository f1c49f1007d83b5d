"""The id of a request: metadata of the calls that it makes, and a field of each line about it."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import grpc.aio
import structlog

if TYPE_CHECKING:  # subscripts that exist in the stubs only
    Context = grpc.aio.ServicerContext[Any, Any]

REQUEST_ID_KEY = "x-request-id"
_FIELD = "request_id"
_MAX_CHARACTERS = 128  # an id that is refused for its length is logged in part


def new_request_id() -> str:
    """An id for a request that came without one."""
    return f"req-{secrets.token_hex(12)}"


def bind_request_id(request_id: str) -> None:
    """Adds the id to whatever this task logs from now on."""
    structlog.contextvars.bind_contextvars(**{_FIELD: request_id[:_MAX_CHARACTERS]})


def request_id_of(context: Context) -> str | None:
    """The id that a call brought along."""
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID_KEY:
            return value if isinstance(value, str) else value.decode("ascii", "replace")
    return None


def request_id_metadata() -> tuple[tuple[str, str], ...]:
    """The metadata with which a call takes along the id of the request that this task works for."""
    request_id = structlog.contextvars.get_contextvars().get(_FIELD)
    return () if request_id is None else ((REQUEST_ID_KEY, str(request_id)),)
