"""Which item is the last of its request."""

from __future__ import annotations

from octavo.v1 import worker_pb2


def ends_request(item: worker_pb2.RunItem) -> bool:
    """A finish ends one output; an error or the times end them all."""
    return item.HasField("error") or item.HasField("timings")
