"""One gateway's attachment: what it has not been sent yet, numbered when it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from octavo.errors import OctavoError, ResourceExhaustedError
from octavo.v1 import worker_pb2
from services.worker.link.run_error import run_error
from services.worker.link.unsent import Unsent

IDLE_S = 1.0  # without news the load is sent this often


class Attachment:
    """The responses of one Run stream.

    `broken` ends with an error when the gateway does not read; `close` lets the writer end once
    everything was sent, with an error or without.
    """

    def __init__(self, gateway_id: str, instance_id: Callable[[], str]) -> None:
        self.gateway_id = gateway_id
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._instance_id = instance_id
        self._unsent = Unsent()
        self._news = asyncio.Event()
        self._sequence = 0
        self._is_done: Callable[[], bool] = lambda: False
        self._closing_error: OctavoError | None = None

    def deliver(self, items: list[worker_pb2.RunItem], load: worker_pb2.Load) -> None:
        """Queues items for the writer. Never waits."""
        if self._is_read():
            self._unsent.add(items, load, time.monotonic())
            self._news.set()

    def refuse(self, key: int, error: OctavoError, load: worker_pb2.Load) -> None:
        """Queues the terminal event of a request that was not taken."""
        if self._is_read():
            item = worker_pb2.RunItem(key=key, error=run_error(error))
            self._unsent.add_apart(item, load, time.monotonic())
            self._news.set()

    def _is_read(self) -> bool:
        """False, and the stream breaks, once too much has waited too long.

        Asked before more is added: what comes at once, however much, does not speak against a
        reader.
        """
        if self.broken.done():
            return False
        if problem := self._unsent.overflow(time.monotonic()):
            self._unsent.clear()
            self.broken.set_exception(
                ResourceExhaustedError(
                    f"gateway {self.gateway_id} does not read: {problem}.", reason="SLOW_READER"
                )
            )
            return False
        return True

    def close(self, error: OctavoError | None = None) -> None:
        """The writer ends after what is queued, by raising `error` if given."""
        self._closing_error = error
        self.close_when(lambda: True)

    def close_when(self, is_done: Callable[[], bool]) -> None:
        """The writer ends once `is_done` says so, and all was sent."""
        self._is_done = is_done
        self._news.set()

    async def next_response(
        self, load: Callable[[], worker_pb2.Load]
    ) -> worker_pb2.RunResponse | None:
        """What is new, or the load after a second without news; None when all was sent."""
        while not self._unsent:
            if self._is_done():
                if self._closing_error is not None:
                    raise self._closing_error
                return None
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), IDLE_S)
            except TimeoutError:
                self._unsent.add((), load(), time.monotonic())
        self._sequence += 1
        response = self._unsent.take()
        response.sequence = self._sequence
        response.instance_id = self._instance_id()
        return response
