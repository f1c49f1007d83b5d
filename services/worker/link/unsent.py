"""What steps gave and nobody has written yet, merged per output of a request.

A slow reader so costs one growing item per open request instead of a queue of responses: the ids
of several steps arrive in one.
"""

from __future__ import annotations

from collections.abc import Iterable

from octavo.v1 import worker_pb2

MAX_BYTES = 8 * 1024 * 1024
MAX_AGE_S = 30.0


class Unsent:
    """Items in the order in which their requests first came, and the newest load. Not locked."""

    def __init__(self) -> None:
        self._items: list[worker_pb2.RunItem] = []
        self._unended: dict[tuple[int, int], worker_pb2.RunItem] = {}
        self._load: worker_pb2.Load | None = None
        self._num_bytes = 0
        self._oldest_at: float | None = None

    def __bool__(self) -> bool:
        return self._load is not None

    def add(self, items: Iterable[worker_pb2.RunItem], load: worker_pb2.Load, now: float) -> None:
        """Takes the items over; `now` is on time.monotonic()."""
        for item in items:
            slot = (item.key, item.output_index)
            earlier = self._unended.pop(slot, None)
            if earlier is None:
                self._items.append(item)
            else:
                # Joins the repeated ids, and sets what comes once: start, end and timings.
                earlier.MergeFrom(item)
            if item.WhichOneof("end") is None:  # else the key may come again, for a new request
                self._unended[slot] = item if earlier is None else earlier
            self._count(item, now)
        self._load = load

    def add_apart(self, item: worker_pb2.RunItem, load: worker_pb2.Load, now: float) -> None:
        """Takes an item that must not be merged: its key may be that of another request."""
        self._items.append(item)
        self._count(item, now)
        self._load = load

    def _count(self, item: worker_pb2.RunItem, now: float) -> None:
        self._num_bytes += item.ByteSize()
        if self._oldest_at is None:
            self._oldest_at = now

    def take(self) -> worker_pb2.RunResponse:
        """Everything, as one response without sequence number and instance id."""
        response = worker_pb2.RunResponse(items=self._items, load=self._load)
        self.clear()
        return response

    def clear(self) -> None:
        """Forgets everything."""
        self._items.clear()
        self._unended.clear()
        self._load = None
        self._num_bytes = 0
        self._oldest_at = None

    def overflow(self, now: float) -> str | None:
        """Says which limit is passed, None where none is."""
        if self._num_bytes > MAX_BYTES:
            return f"{self._num_bytes} bytes are unread, above {MAX_BYTES}"
        if self._oldest_at is not None and now - self._oldest_at > MAX_AGE_S:
            return f"nothing was read for {MAX_AGE_S:g} s"
        return None
