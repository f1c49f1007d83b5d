"""How far a download is, as huggingface_hub tells it: through a progress bar's class."""

from __future__ import annotations

import io
import threading
from typing import Any

from tqdm.std import tqdm

from octavo.status_line import StatusLine


class DownloadProgress:
    """Shows the bytes of a download on `line`, through `bar_class`.

    The library makes several bars: of bytes received, of bytes written, and of files. Which of the
    first two moves depends on how the hub sends a file; the one that is ahead is shown.
    """

    def __init__(self, line: StatusLine, step: str) -> None:
        self._line, self._step = line, step
        self._most = self._total = 0.0
        self._lock = threading.Lock()  # files come in threads
        self.bar_class = self._bar_class()

    def finish(self) -> None:
        """Shows how much it was; what came from the cache alone is not told."""
        if self._most:
            self._show(is_last=True)

    def _bar_class(self) -> type[Any]:
        progress = self

        class Bar(tqdm):  # type: ignore[misc]
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                kwargs.pop("name", None)  # the library's own name of it
                super().__init__(*args, **{**kwargs, "file": io.StringIO(), "disable": False})

            def update(self, n: float | None = 1) -> Any:
                moved = super().update(n)
                if self.unit == "B":
                    progress._note(self.n, self.total or 0)
                return moved

        return Bar

    def _note(self, num_bytes: float, total: float) -> None:
        with self._lock:
            if num_bytes > self._most:
                self._most, self._total = num_bytes, max(total, num_bytes)
                self._show()

    def _show(self, *, is_last: bool = False) -> None:
        detail = f"{self._most / 1e6:.1f} / {self._total / 1e6:.1f} MB"
        self._line.show(self._step, detail, is_last=is_last)
