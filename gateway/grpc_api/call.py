"""What a gRPC call brings besides its message: arrival, deadline and request id."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc.aio

from octavo.rpc.request_id import request_id_of

if TYPE_CHECKING:  # subscripts that exist in the stubs only
    Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One call. Times are on time.monotonic(); the deadline is None where the client has none."""

    arrived_at: float
    deadline_at: float | None
    request_id: str | None

    @classmethod
    def of(cls, context: Context) -> Call:
        """The call that `context` belongs to."""
        now = time.monotonic()
        remaining_s: float | None = context.time_remaining()
        return cls(
            arrived_at=now,
            deadline_at=None if remaining_s is None else now + remaining_s,
            request_id=request_id_of(context),
        )

    @property
    def timeout_s(self) -> float | None:
        """What remains until the deadline; None where there is none."""
        if self.deadline_at is None:
            return None
        return max(0.0, self.deadline_at - time.monotonic())
