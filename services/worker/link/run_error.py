"""An error as RunItem carries it."""

from __future__ import annotations

from octavo.errors import OctavoError
from octavo.v1 import worker_pb2


def run_error(error: OctavoError) -> worker_pb2.RunError:
    """The terminal event of a request that failed."""
    return worker_pb2.RunError(
        code=int(error.code),
        reason=error.reason,
        message=error.message,
        metadata=error.metadata,
        retry_delay_ms=error.retry_delay_ms,
    )
