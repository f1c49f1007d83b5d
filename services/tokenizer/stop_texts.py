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
        longest_first = sorted(set(stop_texts), key=len, reverse=True)
        self._matchers = [_Matcher(stop) for stop in longest_first]
        self._include_stop = include_stop
        self._held = ""

    def add(self, text: str, *, obeyed: bool = True) -> Scanned:
        """Takes new text; gives what cannot be part of a stop text any more. A stop text that ends
        in text of which none is obeyed yet is text; one that only begins there may still match.
        """
        if not self._matchers:
            return Scanned(text=text)
        searched = self._held + text
        for end, character in enumerate(text, start=len(self._held) + 1):
            stop = self._advance(character)
            if stop is not None and obeyed:
                self._held = ""
                kept = end if self._include_stop else end - len(stop)
                return Scanned(text=searched[:kept], stop=stop)
        num_settled = len(searched) - max(matcher.num_matched for matcher in self._matchers)
        self._held = searched[num_settled:]
        return Scanned(text=searched[:num_settled])

    def flush(self) -> str:
        """What was held back, where no more text comes."""
        held, self._held = self._held, ""
        return held

    def _advance(self, character: str) -> str | None:
        """The longest stop text that ends with this character."""
        found: str | None = None
        for matcher in self._matchers:
            if matcher.advance(character) and found is None:
                found = matcher.stop
        return found


class _Matcher:
    """How much of one stop text the text so far ends with (Knuth, Morris and Pratt 1977): constant
    work for each character, however the stop text repeats itself.
    """

    __slots__ = ("_shorter", "num_matched", "stop")

    def __init__(self, stop: str) -> None:
        self.stop = stop
        self.num_matched = 0
        # _shorter[n]: the longest start of `stop`, shorter than n, that its first n end with
        self._shorter = [0] * (len(stop) + 1)
        matched = 0
        for index in range(1, len(stop)):
            while matched and stop[index] != stop[matched]:
                matched = self._shorter[matched]
            matched += stop[index] == stop[matched]
            self._shorter[index + 1] = matched

    def advance(self, character: str) -> bool:
        """Takes one more character; whether the text now ends with the whole stop text."""
        matched = self.num_matched
        while matched and self.stop[matched] != character:
            matched = self._shorter[matched]
        if self.stop[matched] == character:
            matched += 1
        if matched == len(self.stop):
            self.num_matched = self._shorter[matched]
            return True
        self.num_matched = matched
        return False
