"""How far the preparation is, and how a console shows it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

_REDRAW_S = 0.1
_LINE_S = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """`done` of `total` of one step; `unit` is "bytes", "layers", or "" where nothing is counted."""

    step: str
    done: int = 0
    total: int = 0
    unit: str = ""

    def __str__(self) -> str:
        if not self.unit:
            return self.step
        if self.unit == "bytes":
            return f"{self.step}  {self.done / 1e6:.1f} / {self.total / 1e6:.1f} MB"
        return f"{self.step}  {self.done} / {self.total} {self.unit}"


OnProgress = Callable[[Progress], None]


def ignore_progress(_progress: Progress) -> None:
    """Shows nothing."""


class ConsoleProgress:
    """One line that is redrawn on a terminal; a line per step, and every few seconds, elsewhere."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._is_terminal = stream.isatty()
        self._started = clock()
        self._drawn_at = float("-inf")
        self._step = ""
        self._width = 0

    def __call__(self, progress: Progress) -> None:
        """Shows `progress`, unless something was shown a moment ago."""
        now = self._clock()
        is_new = progress.step != self._step
        is_last = 0 < progress.total == progress.done
        pause = _REDRAW_S if self._is_terminal else _LINE_S
        if not (is_new or is_last) and now - self._drawn_at < pause:
            return
        if is_new and self._step:
            self.close()
        self._step, self._drawn_at = progress.step, now
        self._draw(f"{progress}  {now - self._started:.1f} s")

    def close(self) -> None:
        """Ends the line that is redrawn, so that what follows starts on its own."""
        if self._width:
            self._stream.write("\n")
            self._stream.flush()
        self._width = 0

    def _draw(self, text: str) -> None:
        if self._is_terminal:
            self._stream.write("\r" + text.ljust(self._width))
            self._width = len(text)
        else:
            self._stream.write(text + "\n")
        self._stream.flush()
