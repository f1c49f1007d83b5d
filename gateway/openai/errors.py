"""Errors as OpenAI's clients read them: one shape of body on every path.

{"error": {"message": …, "type": …, "param": the field or null, "code": a string or null}}
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from gateway.openai.field_names import openai_name
from octavo.errors import Code, InWords, OctavoError, http_status

INVALID_REQUEST = "invalid_request_error"
SERVER_ERROR = "server_error"

# By reason where it has a name here, then by status; otherwise the reason is the code.
_KIND_BY_STATUS = {429: "rate_limit_error"}
_CODE_BY_STATUS = {429: "rate_limit_exceeded", 500: "internal_error", 503: "server_overloaded"}
_CODE_BY_REASON = {
    "INVALID_FIELD": "invalid_value",
    "UNSUPPORTED_FIELD": "unsupported_parameter",
    "DRAINING": "server_draining",
    "DRAINED": "server_draining",
}


class ApiError(Exception):
    """An answer that is an error: `kind` is its `type`, `param` the name of a field or None."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = INVALID_REQUEST,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """The JSON body."""
        fields = {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }
        return {"error": fields}


def api_error(error: OctavoError, names: Mapping[str, str] | None = None) -> ApiError:
    """The answer for an error of the core; `names` overrides how its fields are called here."""
    status = http_status(error.code)
    # Where something is full, the field is the server's, not one of the request.
    is_full = error.code is Code.RESOURCE_EXHAUSTED
    field = None if is_full else error.metadata.get("field")
    param = openai_name(field, names or {}) if field else None
    return ApiError(
        status,
        _message(error, field, param),
        kind=_kind(status),
        param=param,
        code=_code(error.reason, status),
        headers=_retry_headers(error.retry_delay_ms),
    )


def invalid(param: str, value: object, limit: str) -> ApiError:
    """One field is wrong: names the field, the value and what is allowed."""
    message = f"{param} is {_shown(value)}; it must be {limit}."
    return ApiError(400, message, param=param, code="invalid_value")


def unsupported(param: str) -> ApiError:
    """One field asks for what this server does not do."""
    message = f"{param} is not supported by this server with this value; leave it out."
    return ApiError(400, message, param=param, code="unsupported_parameter")


def internal() -> ApiError:
    """The server broke; what exactly is for its log only."""
    message = "The server failed on this request."
    return ApiError(500, message, kind=SERVER_ERROR, code="internal_error")


def _message(error: OctavoError, field: str | None, param: str | None) -> str:
    if error.code in (Code.INTERNAL, Code.UNKNOWN):
        return internal().message
    if param and error.reason == "UNSUPPORTED_FIELD":
        return unsupported(param).message
    if field and param and error.message.startswith(field):
        return param + error.message[len(field) :]
    return error.message


def _code(reason: str, status: int) -> str:
    return _CODE_BY_REASON.get(reason) or _CODE_BY_STATUS.get(status) or reason.lower()


def _kind(status: int) -> str:
    return _KIND_BY_STATUS.get(status) or (INVALID_REQUEST if status < 500 else SERVER_ERROR)


def _retry_headers(delay_ms: int | None) -> dict[str, str]:
    """Both spellings: openai-python prefers the one in milliseconds."""
    if delay_ms is None:
        return {}
    return {"retry-after": str(math.ceil(delay_ms / 1_000)), "retry-after-ms": str(delay_ms)}


def _shown(value: object) -> str:
    """The value as JSON would have it, short however large it is."""
    match value:
        case None | bool():
            return json.dumps(value)
        case InWords():
            return value
        case str():
            return f'"{value}"' if len(value) <= 60 else f'"{value[:60]}…"'
        case list():
            return f"a list of {len(value)}"
        case dict():
            return "an object"
        case _:
            shown = repr(value)
            return shown if len(shown) <= 60 else f"{shown[:60]}…"
