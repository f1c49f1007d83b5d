"""Errors on a gRPC wire: a status whose details hold ErrorInfo and, where it helps, RetryInfo.

Source of the model: google.rpc (status.proto, error_details.proto) and AIP-193.
"""

from __future__ import annotations

from typing import Any, NoReturn

import grpc
import grpc.aio
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped] # has none

from octavo.errors import OctavoError, error_from_code

ERROR_DOMAIN = "octavo"
_DETAILS_KEY = "grpc-status-details-bin"
_STATUS_BY_NUMBER: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: OctavoError) -> NoReturn:
    """Ends the call with the error's status."""
    await context.abort(
        _STATUS_BY_NUMBER[int(error.code)],
        error.message,
        trailing_metadata=((_DETAILS_KEY, status_proto(error).SerializeToString()),),
    )
    raise AssertionError("abort returned")


def status_proto(error: OctavoError) -> status_pb2.Status:
    """The error as google.rpc.Status."""
    status = status_pb2.Status(code=int(error.code), message=error.message)
    status.details.add().Pack(
        error_details_pb2.ErrorInfo(
            reason=error.reason, domain=ERROR_DOMAIN, metadata=error.metadata
        )
    )
    if error.retry_delay_ms is not None:
        delay = Duration()
        delay.FromMilliseconds(error.retry_delay_ms)
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def error_from_rpc(error: grpc.RpcError) -> OctavoError:
    """The exception that a failed call stands for, with reason and metadata where it has them."""
    reason: str | None = None
    metadata: dict[str, str] = {}
    retry_delay_ms: int | None = None
    for detail in _details(error):
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(retry):
            retry_delay_ms = retry.retry_delay.ToMilliseconds()
    return error_from_code(
        error.code().value[0],
        error.details() or error.code().name,
        reason=reason,
        metadata=metadata,
        retry_delay_ms=retry_delay_ms,
    )


def is_from_server(error: grpc.RpcError) -> bool:
    """Whether a server of ours answered so, rather than gRPC by itself."""
    return bool(_details(error))


def _details(error: grpc.RpcError) -> list[Any]:
    metadata: Any = error.trailing_metadata()  # the sync stubs' type of it cannot be iterated
    for key, value in metadata or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            status = status_pb2.Status()
            status.ParseFromString(value)
            return list(status.details)
    return []
