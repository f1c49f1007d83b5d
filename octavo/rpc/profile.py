"""Samples what one thread does, for flame graphs: nothing is slowed down but by the look itself."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from types import FrameType

_INTERVAL_S = 0.01
_MAX_FRAMES = 100
_MAX_BYTES = 4 * 1024 * 1024
_OTHERS = "(other stacks)"


class StackSampler:
    """Counts the stacks of one thread. `sample` blocks: it is for another thread."""

    def __init__(self, thread_id: int) -> None:
        self._thread_id = thread_id
        self._counts: Counter[str] = Counter()
        self._num_bytes = 0
        self._stop = threading.Event()

    @property
    def num_samples(self) -> int:
        """Counts the samples."""
        return self._counts.total()

    def sample(self, seconds: float) -> None:
        """Looks a hundred times a second, until the time is over or `stop`."""
        ends_at = time.monotonic() + seconds
        while time.monotonic() < ends_at and not self._stop.wait(_INTERVAL_S):
            self._count(_collapsed(sys._current_frames()[self._thread_id]))  # noqa: SLF001

    def stop(self) -> None:
        """Ends `sample`."""
        self._stop.set()

    def collapsed(self) -> str:
        """A line for each stack: frames from the outermost on, and how often it was seen."""
        return "\n".join(f"{stack} {count}" for stack, count in self._counts.most_common())

    def _count(self, stack: str) -> None:
        if stack not in self._counts:
            self._num_bytes += len(stack)
            if self._num_bytes > _MAX_BYTES:
                stack = _OTHERS
        self._counts[stack] += 1


def _collapsed(innermost: FrameType | None) -> str:
    names: list[str] = []
    frame = innermost
    while frame is not None and len(names) < _MAX_FRAMES:
        module = frame.f_globals.get("__name__", "")
        names.append(f"{module}:{frame.f_code.co_qualname}")
        frame = frame.f_back
    return ";".join(reversed(names))
