"""How far a download is, as huggingface_hub tells it: through a progress bar's class."""

from __future__ import annotations

import io
import threading
from typing import Any

from tqdm.std import tqdm

from octavo.status_line import StatusLine


def bars_on(line: StatusLine, step: str) -> type[Any]:
    """A class of progress bars that show bytes on `line` and nothing else anywhere.

    The library makes several: of bytes received, of bytes written, and of files. Which of the first
    two moves depends on how the hub sends a file; the one that is ahead is shown.
    """
    most = 0.0
    lock = threading.Lock()  # files come in threads

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)  # the library's own name of it
            super().__init__(*args, **{**kwargs, "file": io.StringIO(), "disable": False})

        def update(self, n: float | None = 1) -> Any:
            nonlocal most
            moved = super().update(n)
            with lock:
                if self.unit == "B" and self.n > most:
                    most = self.n
                    total = max(self.total or 0, most)
                    line.show(step, f"{most / 1e6:.1f} / {total / 1e6:.1f} MB")
            return moved

    return Bar
