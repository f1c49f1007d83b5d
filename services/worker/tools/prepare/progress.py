"""How far the preparation is, and how a console shows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from octavo.status_line import StatusLine


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """`done` of `total` of one step; `unit` is "bytes", "layers" or "" (nothing is counted)."""

    step: str
    done: int = 0
    total: int = 0
    unit: str = ""

    @property
    def detail(self) -> str:
        """The counts, for a person."""
        if not self.unit:
            return ""
        if self.unit == "bytes":
            return f"{self.done / 1e6:.1f} / {self.total / 1e6:.1f} MB"
        return f"{self.done} / {self.total} {self.unit}"


OnProgress = Callable[[Progress], None]


def ignore_progress(_progress: Progress) -> None:
    """Shows nothing."""


def show_on(line: StatusLine) -> OnProgress:
    """Shows every step on `line`."""

    def show(progress: Progress) -> None:
        is_last = 0 < progress.total == progress.done
        line.show(progress.step, progress.detail, is_last=is_last)

    return show
