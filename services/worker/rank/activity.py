"""What the rank does at this moment and has done, and the thread that tells the front so."""

from __future__ import annotations

import threading
import time

from octavo.bucket_counts import BucketCounts
from octavo.logs import num_dropped_lines
from services.worker.link.messages import Heartbeat
from services.worker.link.rank_end import RankEnd
from services.worker.link.step_times import STEP_BOUNDS_S


class Activity:
    """Set by the main thread, read by the heartbeat's; each value is replaced whole."""

    def __init__(self, step_limit_ms: int) -> None:
        self._step_limit_ms = step_limit_ms
        self._now: tuple[str, float] = ("loading", time.monotonic())
        self._steps = BucketCounts(STEP_BOUNDS_S)

    def begin_idle(self) -> None:
        """The rank waits for work; a step that was under way is over."""
        now = time.monotonic()
        name, since = self._now
        if name == "stepping":
            self._steps.add(now - since)
        self._now = ("idle", now)

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
            step_counts=self._steps.counts,
            steps_s=self._steps.sum,
            log_lines_dropped=num_dropped_lines(),
        )


def start_heartbeat(link: RankEnd, activity: Activity, interval_ms: int) -> None:
    """Sends the activity for as long as the process lives."""

    def beat() -> None:
        pause = threading.Event()
        while not pause.wait(interval_ms / 1000):
            link.send(activity.heartbeat())

    threading.Thread(target=beat, name="heartbeat", daemon=True).start()
