"""Text from growing ids: half characters are held back, nothing is decoded twice.

Two ways. Where each id adds bytes of its own (byte-level and byte-fallback vocabularies), the bytes
go through an incremental UTF-8 decoder. Elsewhere a short window of ids is decoded with and without
the new one, and what differs is new.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Protocol

from services.tokenizer.backends import PieceTable, TokenizerBackend

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
# What half a character shows as: it has at most three bytes, each of which may be one U+FFFD.
_MOST_REPLACEMENTS = 3
# Some decoders show whole characters before it as U+FFFD too, until it is complete. A longer run
# than this is none of that: it is text.
_MOST_HELD_REPLACEMENTS = 12
# A window that is not all given out by then (a run of bytes that are no UTF-8) is cut, so that the
# work for each id stays bounded.
_MOST_WINDOW_IDS = 32
_LEAST_WINDOW_IDS = 8


class StreamText(Protocol):
    """The text of one output."""

    def add(self, token_id: int) -> str:
        """The text that is new with one more id."""

    def flush(self) -> str:
        """What was held back, where no more ids come."""


class ByteStreamText:
    """For vocabularies whose ids add bytes of their own."""

    def __init__(self, table: PieceTable, prompt_tail: Sequence[int]) -> None:
        self._table = table
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._is_first = True
        self._tail_end = _TailEnd("")
        for token_id in prompt_tail:
            self.add(token_id)
        pending, _ = self._decoder.getstate()
        self._tail_end = _TailEnd(pending.decode(errors="replace"))

    def add(self, token_id: int) -> str:
        """See StreamText."""
        piece = self._table.pieces[token_id]
        if self._is_first and piece:
            self._is_first = False
            piece = self._table.first(piece)
        return self._tail_end.taken_from(self._decoder.decode(piece))

    def flush(self) -> str:
        """See StreamText."""
        return self._tail_end.taken_from(self._decoder.decode(b"", final=True))


class WindowStreamText:
    """For vocabularies in which what an id adds depends on the ids around it.

        ids    ... c c c | r r | h      c: forgotten
        window           [ r r   h ]    r: read before, all their text was given out
        given  decode(     r r     )    h: not all their text was given out yet

    What an id adds must not depend on more than the ids right before it and on whether it is the
    first of its text. The window's first one is so with and without h: that cancels out.
    """

    def __init__(self, backend: TokenizerBackend, prompt_tail: Sequence[int]) -> None:
        self._backend = backend
        self._special = frozenset(backend.special_ids.values())
        self._ids = [token_id for token_id in prompt_tail if token_id not in self._special]
        self._num_read = len(self._ids)
        text = self._decode(self._ids)
        self._given = _settled(text)
        self._tail_end = _TailEnd(text[len(self._given) :])

    def add(self, token_id: int) -> str:
        """See StreamText."""
        if token_id in self._special:  # adds nothing, and does not come between its neighbours
            return ""
        self._ids.append(token_id)
        text = self._decode(self._ids)
        settled = _settled(text)
        new = ""
        if settled.startswith(self._given):
            new, self._given = settled[len(self._given) :], settled
        if new and settled == text and not self._is_within(self._num_read):
            self._begin_at(self._num_read, held="")
            self._num_read = len(self._ids)
        elif len(self._ids) >= _MOST_WINDOW_IDS:
            self._begin_at(len(self._ids) - _LEAST_WINDOW_IDS, held=text[len(self._given) :])
            self._num_read = 0
        return self._tail_end.taken_from(new)

    def flush(self) -> str:
        """See StreamText."""
        text = self._decode(self._ids)
        new, self._given = text[len(self._given) :], text
        return self._tail_end.taken_from(new)

    def _is_within(self, index: int) -> bool:
        """Whether a window that begins at `index` would begin within a character."""
        return _REPLACEMENT in self._decode(self._ids[index:])

    def _begin_at(self, index: int, *, held: str) -> None:
        """Forgets the ids before `index`; `held` is what was not given out at the window's end."""
        del self._ids[:index]
        text = self._decode(self._ids)
        self._given = text.removesuffix(held)

    def _decode(self, ids: Sequence[int]) -> str:
        return self._backend.decode(ids, skip_special_tokens=True)


class _TailEnd:
    """Half a character at the end of the prompt tail: Decode of the tail shows it as U+FFFD, so a
    text that begins with the same has nothing new there. Where ids make it a whole character, that
    one is new.
    """

    __slots__ = ("_shown",)

    def __init__(self, shown: str) -> None:
        self._shown = shown

    def taken_from(self, new: str) -> str:
        """`new` without what Decode of the tail shows of it."""
        if not self._shown or not new:
            return new
        count = 0
        while count < min(len(new), len(self._shown)) and new[count] == self._shown[count]:
            count += 1
        self._shown = self._shown[count:] if count == len(new) else ""
        return new[count:]


def _settled(text: str) -> str:
    """`text` without what may be half a character at its end."""
    num_unsettled = len(text) - len(text.rstrip(_REPLACEMENT))
    if num_unsettled > _MOST_HELD_REPLACEMENTS:
        num_unsettled = _MOST_REPLACEMENTS
    return text[: len(text) - num_unsettled]


def stream_text(backend: TokenizerBackend, prompt_tail: Sequence[int]) -> StreamText:
    """The text of an output that follows `prompt_tail`."""
    if backend.pieces is None:
        return WindowStreamText(backend, prompt_tail)
    return ByteStreamText(backend.pieces, prompt_tail)
