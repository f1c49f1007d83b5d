"""Finds stop texts in a growing text, and holds back what may become one.

The match that ends first wins; of those that end together, the longest. That choice, and no other,
does not depend on how the text was cut into pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Scanned:
    """Text that is settled, and the stop text that matched right after it, if one did."""

    text: str
    stop: str | None = None


class StopTexts:
    """The stop texts of one output."""

    def __init__(self, stop_texts: Sequence[str], *, include_stop: bool) -> None:
        self._stops = tuple(stop_texts)
        self._longest = max(map(len, stop_texts), default=0)
        self._include_stop = include_stop
        self._held = ""

    def add(self, text: str) -> Scanned:
        """Takes new text; gives what cannot be part of a stop text any more."""
        if not self._stops:
            return Scanned(text=text)
        if not text:
            return Scanned(text="")
        searched = self._held + text
        if (match := self._first_match(searched)) is not None:
            start, stop = match
            self._held = ""
            kept = start + len(stop) if self._include_stop else start
            return Scanned(text=searched[:kept], stop=stop)
        num_settled = len(searched) - self._num_held(searched)
        self._held = searched[num_settled:]
        return Scanned(text=searched[:num_settled])

    def flush(self) -> str:
        """What was held back, where no more text comes."""
        held, self._held = self._held, ""
        return held

    def _first_match(self, text: str) -> tuple[int, str] | None:
        found = [(start, stop) for stop in self._stops if (start := text.find(stop)) >= 0]
        if not found:
            return None
        return min(found, key=lambda match: (match[0] + len(match[1]), match[0]))

    def _num_held(self, text: str) -> int:
        """How many characters at the end of `text` may be the start of a stop text."""
        for count in range(min(self._longest - 1, len(text)), 0, -1):
            suffix = text[-count:]
            if any(stop.startswith(suffix) for stop in self._stops):
                return count
        return 0
