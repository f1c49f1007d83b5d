"""The generations of one session, by key: what is written for them and who hears what comes back.

Knows no threads and no event loop: the two sessions bring the inboxes and the stream.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from octavo.client.gathering import ended_early
from octavo.client.generation_types import Event
from octavo.client.generation_wire import error_from_pb, event_from_pb
from octavo.errors import FailedPreconditionError, OctavoError
from octavo.v1 import generation_pb2 as pb


class Inbox(Protocol):
    """Where a generation's events wait for their reader."""

    def put_nowait(self, item: Event | OctavoError, /) -> None:
        """Takes the next event, or the failure that comes in its place."""


InboxT = TypeVar("InboxT", bound=Inbox)


class SessionRequests(Generic[InboxT]):
    """The open generations of a session. Events wait in memory: as many as their max_tokens."""

    def __init__(self, new_inbox: Callable[[], InboxT]) -> None:
        self._new_inbox = new_inbox
        self._keys = itertools.count(1)
        self._inboxes: dict[int, InboxT] = {}
        self._closed: OctavoError | None = None
        self._lock = threading.Lock()

    def add(self) -> tuple[int, InboxT]:
        """A key and an inbox for one more generation; raises what the session was closed with."""
        with self._lock:
            if self._closed is not None:
                raise self._closed
            key = next(self._keys)
            self._inboxes[key] = self._new_inbox()
            return key, self._inboxes[key]

    def deliver(self, response: pb.OpenSessionResponse) -> None:
        """Hands what came to its generation; the last one frees the key."""
        kind = response.WhichOneof("event")
        with self._lock:
            inbox = self._inboxes.get(response.key)
            if kind in ("usage", "error"):
                self._inboxes.pop(response.key, None)
        item = error_from_pb(response.error) if kind == "error" else event_from_pb(response)
        if inbox is not None and item is not None:
            inbox.put_nowait(item)

    def finish(self) -> None:
        """Refuses further generations; the open ones go on."""
        with self._lock:
            self._closed = self._closed or _closed()

    def end(self, failure: OctavoError | None) -> None:
        """The stream is over: what is still open fails, and so does what comes later."""
        with self._lock:
            inboxes, self._inboxes = self._inboxes, {}
            self._closed = self._closed or failure or _closed()
        for inbox in inboxes.values():
            inbox.put_nowait(failure or ended_early())


def open_message(key: int, request: pb.GenerateRequest) -> pb.OpenSessionRequest:
    """The message that starts a generation."""
    return pb.OpenSessionRequest(key=key, open=request)


def cancel_message(key: int) -> pb.OpenSessionRequest:
    """The message that cancels one."""
    return pb.OpenSessionRequest(key=key, cancel=pb.CancelGeneration())


def _closed() -> FailedPreconditionError:
    return FailedPreconditionError(
        "The session is closed: it takes no more generations.", reason="SESSION_CLOSED"
    )
