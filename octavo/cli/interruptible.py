"""Events that a Ctrl-C may interrupt at any moment."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import SimpleQueue
from typing import TYPE_CHECKING

from octavo.client.generation_types import Event

if TYPE_CHECKING:  # imports gRPC, which help texts need not wait for
    from octavo.client.stream import EventStream


def interruptible(stream: EventStream) -> Iterator[Event]:
    """The events of `stream`, read by a thread of its own.

    KeyboardInterrupt comes between any two steps of the main thread. Within gRPC that may be where
    a lock is held: it would stay so, and the next call on the connection would wait for ever. This
    queue is made in C, and is whole at every step.
    """
    events: SimpleQueue[Event | BaseException | None] = SimpleQueue()

    def read() -> None:
        try:
            for event in stream:
                events.put(event)
        except BaseException as error:  # noqa: BLE001 - raised where the events are read
            events.put(error)
        else:
            events.put(None)

    threading.Thread(target=read, daemon=True, name="answer").start()
    while (event := events.get()) is not None:
        if isinstance(event, BaseException):
            raise event
        yield event
