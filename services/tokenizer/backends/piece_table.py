"""The bytes that each id of a vocabulary adds to a text.

Where a tokenizer has such a table, Decode and StreamDecode both join its pieces and read them as
UTF-8, so that they agree by construction and a text never changes behind what was sent. On all text
that was encoded this is what the tokenizer's own library gives. On bytes that are no UTF-8 one rule
holds for all (Unicode's: U+FFFD for each maximal part of a character), where the library's
byte-fallback decoder spoils the whole characters before and after as well.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


class LeadingSpace(enum.Enum):
    """What becomes of spaces that the first piece of a text begins with."""

    KEPT = enum.auto()
    ONE_DROPPED = enum.auto()  # the one that encoding put before every text
    ALL_DROPPED = enum.auto()  # every space within the first piece


@dataclass(frozen=True, kw_only=True, slots=True)
class PieceTable:
    """`pieces[id]` is what the id adds, b"" for special ids; `special` has their texts."""

    pieces: Sequence[bytes]
    special: Mapping[int, bytes]
    leading_space: LeadingSpace = LeadingSpace.KEPT

    def first(self, piece: bytes) -> bytes:
        """`piece`, which is not empty, where it is the first of a text."""
        if self.leading_space is LeadingSpace.KEPT:
            return piece
        if self.leading_space is LeadingSpace.ONE_DROPPED:
            return piece.removeprefix(b" ")
        return piece.replace(b" ", b"")

    def text(self, ids: Iterable[int], *, skip_special_tokens: bool) -> str:
        """The text of `ids`."""
        pieces = (
            [self.pieces[number] for number in ids]
            if skip_special_tokens
            else [self.token_bytes(number) for number in ids]
        )
        first = next((index for index, piece in enumerate(pieces) if piece), None)
        if first is not None:
            pieces[first] = self.first(pieces[first])
        return b"".join(pieces).decode(errors="replace")

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of one id; a special token's own text."""
        special = self.special.get(token_id)
        return self.pieces[token_id] if special is None else special


def fallback_byte(token: str) -> int | None:
    """The byte that a token such as <0x0A> stands for."""
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        try:
            return int(token[3:5], 16)
        except ValueError:
            return None
    return None
