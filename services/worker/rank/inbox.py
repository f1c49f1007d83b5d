"""What the front has asked for and the main loop has not seen yet, filled by a reader thread."""

from __future__ import annotations

import os
import queue
import threading

import structlog

from octavo.v1 import worker_pb2
from services.worker.link.messages import LinkError, Stop
from services.worker.link.rank_end import RankEnd

log = structlog.get_logger()

Act = worker_pb2.RunRequest | Stop


class Inbox:
    """The acts in the order in which they came."""

    def __init__(self, link: RankEnd) -> None:
        self._link = link
        self._acts: queue.SimpleQueue[Act] = queue.SimpleQueue()
        threading.Thread(target=self._read, name="link-reader", daemon=True).start()

    def take(self, *, wait: bool) -> list[Act]:
        """All acts that are there; with `wait`, at least one."""
        acts = [self._acts.get()] if wait else []
        while not self._acts.empty():
            acts.append(self._acts.get())
        return acts

    def _read(self) -> None:
        try:
            for message in self._link.messages():
                if isinstance(message, worker_pb2.RunRequest | Stop):
                    self._acts.put(message)
        except (LinkError, OSError) as error:
            log.warning("the link broke", cause=str(error))
        os._exit(1)  # without a front there is nobody to work for, whatever the main thread does
