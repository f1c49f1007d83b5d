"""The exceptions of Octavo, and the one table between exception, code and HTTP status.

OctavoError
├── CancelledError               the caller cancelled
├── InvalidArgumentError         the request is wrong whatever the state of the server
├── DeadlineExceededError        the time ran out
├── NotFoundError                what was named does not exist
├── AlreadyExistsError           the key or id is in use
├── PermissionDeniedError        the caller may not do this
├── ResourceExhaustedError       a limit or a queue is full
├── FailedPreconditionError      the server is not in the state that the request needs
├── AbortedError                 the operation was aborted
├── OutOfRangeError              a value is past its range
├── UnimplementedError           the server does not have this operation
├── InternalError                the server broke its own rules
├── UnavailableError             a part of the server cannot be reached
├── DataLossError                data was lost
├── UnauthenticatedError         the caller is not known
└── UnknownError                 the cause is not known

Raised anywhere, turned into a gRPC status by `octavo.rpc` and into an HTTP answer by the gateway.
This module imports neither.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import ClassVar

_MAX_SHOWN = 80  # characters of a value in an error


class Code(enum.IntEnum):
    """The codes of errors; numbers and names are those of gRPC's status codes."""

    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class OctavoError(Exception):
    """Anything that Octavo reports to a caller.

    `reason` is UPPER_SNAKE_CASE and stable; programs may branch on it. `metadata` names field,
    value and limit where there are any. `retry_delay_ms` is None where a retry does not help.
    """

    code: ClassVar[Code] = Code.UNKNOWN

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        metadata: Mapping[str, str] | None = None,
        retry_delay_ms: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.code.name
        self.metadata = dict(metadata or {})
        self.retry_delay_ms = retry_delay_ms


class CancelledError(OctavoError):
    """The caller cancelled."""

    code = Code.CANCELLED


class UnknownError(OctavoError):
    """The cause is not known."""

    code = Code.UNKNOWN


class InvalidArgumentError(OctavoError):
    """The request is wrong whatever the state of the server."""

    code = Code.INVALID_ARGUMENT


class DeadlineExceededError(OctavoError):
    """The time ran out."""

    code = Code.DEADLINE_EXCEEDED


class NotFoundError(OctavoError):
    """What was named does not exist."""

    code = Code.NOT_FOUND


class AlreadyExistsError(OctavoError):
    """The key or id is in use."""

    code = Code.ALREADY_EXISTS


class PermissionDeniedError(OctavoError):
    """The caller may not do this."""

    code = Code.PERMISSION_DENIED


class ResourceExhaustedError(OctavoError):
    """A limit or a queue is full."""

    code = Code.RESOURCE_EXHAUSTED


class FailedPreconditionError(OctavoError):
    """The server is not in the state that the request needs."""

    code = Code.FAILED_PRECONDITION


class AbortedError(OctavoError):
    """The operation was aborted."""

    code = Code.ABORTED


class OutOfRangeError(OctavoError):
    """A value is past its range."""

    code = Code.OUT_OF_RANGE


class UnimplementedError(OctavoError):
    """The server does not have this operation."""

    code = Code.UNIMPLEMENTED


class InternalError(OctavoError):
    """The server broke its own rules."""

    code = Code.INTERNAL


class UnavailableError(OctavoError):
    """A part of the server cannot be reached."""

    code = Code.UNAVAILABLE


class DataLossError(OctavoError):
    """Data was lost."""

    code = Code.DATA_LOSS


class UnauthenticatedError(OctavoError):
    """The caller is not known."""

    code = Code.UNAUTHENTICATED


# Exception <-> code <-> HTTP status. 499 is nginx's "client closed request".
_TABLE: tuple[tuple[type[OctavoError], int], ...] = (
    (CancelledError, 499),
    (UnknownError, 500),
    (InvalidArgumentError, 400),
    (DeadlineExceededError, 504),
    (NotFoundError, 404),
    (AlreadyExistsError, 409),
    (PermissionDeniedError, 403),
    (ResourceExhaustedError, 429),
    (FailedPreconditionError, 409),
    (AbortedError, 409),
    (OutOfRangeError, 400),
    (UnimplementedError, 501),
    (InternalError, 500),
    (UnavailableError, 503),
    (DataLossError, 500),
    (UnauthenticatedError, 401),
)
_EXCEPTION_BY_CODE = {exception.code: exception for exception, _ in _TABLE}
_HTTP_STATUS_BY_CODE = {exception.code: status for exception, status in _TABLE}


def http_status(code: Code) -> int:
    """The HTTP status that stands for `code`."""
    return _HTTP_STATUS_BY_CODE[code]


def error_from_code(
    code: int,
    message: str,
    *,
    reason: str | None = None,
    metadata: Mapping[str, str] | None = None,
    retry_delay_ms: int | None = None,
) -> OctavoError:
    """The exception for a code that came over a wire; a number that is no code is UNKNOWN."""
    known = Code(code) if code in Code._value2member_map_ else Code.UNKNOWN
    return _EXCEPTION_BY_CODE[known](
        message, reason=reason, metadata=metadata, retry_delay_ms=retry_delay_ms
    )


class InWords(str):
    """A value that is told in words, such as "9 tokens": an error shows it without quotes."""

    __slots__ = ()


def invalid_field(field: str, value: object, limit: str) -> InvalidArgumentError:
    """The error for one wrong field: names the field, the value and what is allowed."""
    shown = _shortened(_told(value))
    quoted = f'"{shown}"' if isinstance(value, str) and not isinstance(value, InWords) else shown
    return InvalidArgumentError(
        f"{field} is {quoted}; it must be {limit}.",
        reason="INVALID_FIELD",
        metadata={"field": field, "value": shown, "limit": limit},
    )


def _told(value: object) -> str:
    """The value as JSON's readers would call it; a lone surrogate or a control as its escape."""
    match value:
        case None:
            return "absent"
        case bool():
            return "true" if value else "false"
        case str():
            return value if value.isprintable() else ascii(value)[1:-1]
        case _:
            return repr(value)


def _shortened(shown: str) -> str:
    return shown if len(shown) <= _MAX_SHOWN else shown[: _MAX_SHOWN - 3] + "..."


def unsupported_field(field: str) -> InvalidArgumentError:
    """The error for a field that this server does not honour (GetModel lists those it does)."""
    return InvalidArgumentError(
        f"{field} is not supported by this server; GetModel lists the fields that are.",
        reason="UNSUPPORTED_FIELD",
        metadata={"field": field},
    )
