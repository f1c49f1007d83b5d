"""How far a load is: to the front at each per cent, to the log every few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from octavo.time_left import time_left_s
from services.worker.link.messages import Progress

log = structlog.get_logger()

_PARTS = 100  # the front hears of each per cent, not of each tensor
_LOG_EVERY_S = 5.0


class LoadProgress:
    """Told of bytes; `send` takes messages to the front, `clock` gives seconds."""

    def __init__(
        self, send: Callable[[Progress], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._send, self._clock = send, clock
        self._last_part = -1
        self._started_at = self._logged_at = clock()

    def report(self, loaded_bytes: int, total_bytes: int) -> None:
        """So many bytes of the files are loaded."""
        part = loaded_bytes * _PARTS // max(1, total_bytes)
        if part != self._last_part:
            self._last_part = part
            self._send(
                Progress(
                    stage="loading weights", loaded_bytes=loaded_bytes, total_bytes=total_bytes
                )
            )
        if self._clock() - self._logged_at >= _LOG_EVERY_S:
            self._logged_at = self._clock()
            self._log(loaded_bytes, total_bytes)

    def _log(self, loaded_bytes: int, total_bytes: int) -> None:
        elapsed_s = self._clock() - self._started_at
        left_s = time_left_s(elapsed_s=elapsed_s, done=loaded_bytes, total=total_bytes)
        log.info(
            "loading weights",
            loaded_mb=loaded_bytes // 10**6,
            total_mb=total_bytes // 10**6,
            left_s=None if left_s is None else round(left_s),
        )
