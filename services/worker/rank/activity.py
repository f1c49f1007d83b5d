"""What the rank does at this moment, and the thread that tells the front so."""

from __future__ import annotations

import threading
import time

from services.worker.link.messages import Heartbeat
from services.worker.link.rank_end import RankEnd


class Activity:
    """Set by the main thread, read by the heartbeat's; each value is replaced whole."""

    def __init__(self, step_limit_ms: int) -> None:
        self._step_limit_ms = step_limit_ms
        self._now: tuple[str, float] = ("loading", time.monotonic())

    def begin_idle(self) -> None:
        """The rank waits for work."""
        self._now = ("idle", time.monotonic())

    def begin_step(self) -> None:
        """The rank runs a step, which counts as hung past its limit."""
        self._now = ("stepping", time.monotonic())

    def heartbeat(self) -> Heartbeat:
        """The state as the front reads it."""
        name, since = self._now
        return Heartbeat(
            activity=name,
            activity_ms=int((time.monotonic() - since) * 1000),
            limit_ms=self._step_limit_ms if name == "stepping" else 0,
        )


def start_heartbeat(link: RankEnd, activity: Activity, interval_ms: int) -> None:
    """Sends the activity for as long as the process lives."""

    def beat() -> None:
        pause = threading.Event()
        while not pause.wait(interval_ms / 1000):
            link.send(activity.heartbeat())

    threading.Thread(target=beat, name="heartbeat", daemon=True).start()
