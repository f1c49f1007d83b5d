"""How far something is, for a person who waits."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

_REDRAW_S = 0.1
_REPEAT_S = 5.0


class StatusLine:
    """One line that is redrawn on a terminal; a line per step, and every few seconds, elsewhere."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._is_terminal = stream.isatty()
        self._started = clock()
        self._drawn_at = float("-inf")
        self._step = ""
        self._width = 0

    def show(self, step: str, detail: str = "", *, is_last: bool = False) -> None:
        """Shows how far `step` is, unless the same step was shown a moment ago."""
        now = self._clock()
        is_new = step != self._step
        pause = _REDRAW_S if self._is_terminal else _REPEAT_S
        if not (is_new or is_last) and now - self._drawn_at < pause:
            return
        if is_new:
            self.close()
            self._started = now
        self._step, self._drawn_at = step, now
        self._draw("  ".join(filter(None, [step, detail, f"{now - self._started:.1f} s"])))

    def print(self, text: str) -> None:
        """Writes lines that stay."""
        self.close()
        self._stream.write(text + "\n")
        self._stream.flush()

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
