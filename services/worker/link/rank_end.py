"""The rank's end of the link, for threads."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import structlog

from octavo.v1 import worker_pb2
from services.worker.link.messages import (
    HEADER,
    Control,
    Heartbeat,
    Message,
    decode,
    encode,
    split_header,
)
from services.worker.link.unsent import Unsent

log = structlog.get_logger()


class RankEnd:
    """The rank's end: sends from a thread of its own, so that a step never waits for the front.

    Responses that were not sent yet are merged, and only the newest heartbeat waits. Past the
    limits of `Unsent` the front counts as gone, as when it closes, and `messages` ends.
    """

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._changed = threading.Condition()
        self._controls: list[Control] = []
        self._responses = Unsent()
        self._closing = False
        self._writer = threading.Thread(target=self._write_all, name="link-writer", daemon=True)
        self._writer.start()

    def send(self, message: Control) -> None:
        """Queues a control message."""
        with self._changed:
            if isinstance(message, Heartbeat) and isinstance(self._last_control, Heartbeat):
                self._controls.pop()
            self._controls.append(message)
            self._changed.notify()

    def send_response(self, response: worker_pb2.RunResponse) -> None:
        """Queues what a step gave."""
        now = time.monotonic()
        with self._changed:
            # Asked before more is added: much that comes at once does not speak against the front.
            if problem := self._responses.overflow(now):
                log.error("the front does not read", cause=problem)
                self._hang_up()
            self._responses.add(response.items, response.load, now)
            self._changed.notify()

    def messages(self) -> Iterator[Message]:
        """What the front sends, until it closes. Blocks: for a reader thread."""
        with self._socket.makefile("rb") as stream:
            while len(header := stream.read(HEADER.size)) == HEADER.size:
                size, kind = split_header(header)
                payload = stream.read(size)
                if len(payload) < size:
                    return
                yield decode(kind, payload)

    def close(self, timeout_s: float) -> None:
        """Waits until everything queued was sent, for `timeout_s` at most."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._writer.join(timeout_s)
        self._hang_up()
        self._socket.close()

    @property
    def _last_control(self) -> Control | None:
        return self._controls[-1] if self._controls else None

    def _hang_up(self) -> None:
        with contextlib.suppress(OSError):  # the front may have been first
            self._socket.shutdown(socket.SHUT_RDWR)

    def _write_all(self) -> None:
        try:
            while frames := self._take():
                self._socket.sendall(frames)
        except OSError:
            pass  # the front is gone: the reader sees that too, and ends the rank

    def _take(self) -> bytes:
        """Waits for something to send; empty at the end. A failure follows what steps gave."""
        with self._changed:
            self._changed.wait_for(lambda: self._controls or self._responses or self._closing)
            frames = encode(self._responses.take()) if self._responses else b""
            frames += b"".join(encode(message) for message in self._controls)
            self._controls.clear()
            return frames
