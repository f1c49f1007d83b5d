"""What a failed call means to a caller, who knows an address and a timeout but no connection."""

from __future__ import annotations

import grpc

from octavo.errors import (
    CancelledError,
    Code,
    DeadlineExceededError,
    FailedPreconditionError,
    OctavoError,
    UnavailableError,
)
from octavo.rpc.status import error_from_rpc, is_from_server


def failure_from_rpc(error: grpc.RpcError, *, address: str, timeout_s: float | None) -> OctavoError:
    """The exception for a call that failed; what gRPC itself reports is put in a caller's words."""
    failure = error_from_rpc(error)
    if is_from_server(error):
        return failure
    if failure.code is Code.UNAVAILABLE:
        cause = failure.message.rpartition(": ")[2].rstrip("]")
        return UnavailableError(
            f"There is no connection to {address}, or it was lost: {cause}",
            reason="UNREACHABLE",
            metadata={"address": address},
        )
    if failure.code is Code.DEADLINE_EXCEEDED and timeout_s is not None:
        return timed_out(timeout_s)
    return failure


def timed_out(timeout_s: float) -> DeadlineExceededError:
    """The error of a call that took longer than its caller allowed."""
    return DeadlineExceededError(
        f"The answer took longer than the timeout of {timeout_s:g} s.",
        metadata={"timeout_s": f"{timeout_s:g}"},
    )


def client_closed() -> FailedPreconditionError:
    """The error of a call on a client that was closed."""
    return FailedPreconditionError("The client is closed.", reason="CLIENT_CLOSED")


def stream_closed() -> CancelledError:
    """The error of reading on where a stream was closed."""
    return CancelledError("The stream was closed.", reason="STREAM_CLOSED")
