"""Text from growing ids: half characters are held back, nothing is decoded twice.

Two ways. Where each id adds bytes of its own (byte-level and byte-fallback vocabularies), the bytes
go through an incremental UTF-8 decoder. Elsewhere a short window of ids is decoded with and without
the new one, and what differs is new.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Protocol

from services.tokenizer.backends import TokenizerBackend

# A window whose text ends in U+FFFD waits for the rest of a character. No character has more than
# four bytes, so after this many ids it is no half character and is given out.
_MOST_HELD_IDS = 8
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class StreamText(Protocol):
    """The text of one output."""

    def add(self, token_id: int) -> str:
        """The text that is new with one more id."""

    def flush(self) -> str:
        """What was held back, where no more ids come."""


class ByteStreamText:
    """For vocabularies whose ids add bytes of their own."""

    def __init__(
        self, pieces: Sequence[bytes], prompt_tail: Sequence[int], *, strips_leading_space: bool
    ) -> None:
        self._pieces = pieces
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._strips = strips_leading_space
        for token_id in prompt_tail:
            self.add(token_id)

    def add(self, token_id: int) -> str:
        """See StreamText."""
        piece = self._pieces[token_id]
        if self._strips and piece:
            self._strips = False
            piece = piece.removeprefix(b" ")
        return self._decoder.decode(piece)

    def flush(self) -> str:
        """See StreamText."""
        return self._decoder.decode(b"", final=True)


class WindowStreamText:
    """For vocabularies in which what an id adds depends on the ids around it."""

    def __init__(self, backend: TokenizerBackend, prompt_tail: Sequence[int]) -> None:
        self._backend = backend
        self._ids = list(prompt_tail)
        self._num_read = len(self._ids)  # ids whose text was given out
        self._given = self._decode()  # text of those

    def add(self, token_id: int) -> str:
        """See StreamText."""
        self._ids.append(token_id)
        text = self._decode()
        num_held = len(self._ids) - self._num_read
        if text.endswith(_REPLACEMENT) and num_held < _MOST_HELD_IDS:
            return ""
        return self._give(text)

    def flush(self) -> str:
        """See StreamText."""
        return self._give(self._decode())

    def _give(self, text: str) -> str:
        """What `text` has beyond what was given; the window then begins at the ids just read."""
        new = text[len(self._given) :]
        if new:
            self._ids = self._ids[self._num_read :] or self._ids
            self._given = self._decode()
        self._num_read = len(self._ids)
        return new

    def _decode(self) -> str:
        return self._backend.decode(self._ids, skip_special_tokens=True)


def stream_text(backend: TokenizerBackend, prompt_tail: Sequence[int]) -> StreamText:
    """The text of an output that follows `prompt_tail`."""
    if backend.pieces is None:
        return WindowStreamText(backend, prompt_tail)
    return ByteStreamText(
        backend.pieces, prompt_tail, strips_leading_space=backend.strips_leading_space
    )
