"""What steps gave and nobody has written yet, merged per output of a request.

A slow reader so costs one growing item per open output instead of a queue of responses: the ids of
several steps arrive in one.
"""

from __future__ import annotations

from collections.abc import Iterable

from octavo.v1 import worker_pb2
from services.worker.link.request_end import ends_request

MAX_BYTES = 8 * 1024 * 1024  # that may wait
MAX_MESSAGE_BYTES = 8 * 1024 * 1024  # of one response, unless a single item is larger
MAX_AGE_S = 30.0


class Unsent:
    """Items in the order in which their outputs first came, and the newest load. Not locked."""

    def __init__(self) -> None:
        self._items: list[worker_pb2.RunItem] = []
        # The last item of each output, by the key of its request, until the request ends.
        self._latest: dict[int, dict[int, worker_pb2.RunItem]] = {}
        self._load: worker_pb2.Load | None = None
        self._num_bytes = 0
        self._oldest_at: float | None = None

    def __bool__(self) -> bool:
        return self._load is not None

    def add(self, items: Iterable[worker_pb2.RunItem], load: worker_pb2.Load, now: float) -> None:
        """Takes the items over; `now` is on time.monotonic()."""
        for item in items:
            self._place(item)
            self._count(item, now)
        self._load = load

    def add_apart(self, item: worker_pb2.RunItem, load: worker_pb2.Load, now: float) -> None:
        """Takes an item that must not be merged: its key may be that of another request."""
        self._items.append(item)
        self._count(item, now)
        self._load = load

    def _place(self, item: worker_pb2.RunItem) -> None:
        """Joins the item with what waits of its output, or puts it last."""
        outputs = self._latest.setdefault(item.key, {})
        earlier = outputs.get(item.output_index)
        if ends_request(item):
            del self._latest[item.key]  # the key may come again, for a new request
            # The end comes after all that there is of other outputs, and replaces no finish.
            if len(outputs) > 1 or (earlier is not None and earlier.HasField("finish")):
                earlier = None
        if earlier is None:
            self._items.append(item)
            outputs[item.output_index] = item
        else:
            # Joins the repeated fields, and sets what comes once: start, end and timings.
            earlier.MergeFrom(item)

    def _count(self, item: worker_pb2.RunItem, now: float) -> None:
        self._num_bytes += item.ByteSize()
        if self._oldest_at is None:
            self._oldest_at = now

    def take(self) -> worker_pb2.RunResponse:
        """The oldest items, up to MAX_MESSAGE_BYTES, as a response without sequence number and
        instance id.
        """
        if self._num_bytes <= MAX_MESSAGE_BYTES:
            response = worker_pb2.RunResponse(items=self._items, load=self._load)
            self.clear()
            return response
        count = self._num_fitting()
        response = worker_pb2.RunResponse(items=self._items[:count], load=self._load)
        self._items = self._items[count:]
        self._latest.clear()  # what is left is not joined with what comes
        self._num_bytes = sum(item.ByteSize() for item in self._items)
        if not self._items:
            self.clear()
        return response

    def _num_fitting(self) -> int:
        """How many of the items go into one response, at least 1."""
        num_bytes = 0
        for count, item in enumerate(self._items):
            num_bytes += item.ByteSize()
            if num_bytes > MAX_MESSAGE_BYTES:
                return max(count, 1)
        return len(self._items)

    def clear(self) -> None:
        """Forgets everything."""
        self._items = []
        self._latest.clear()
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
