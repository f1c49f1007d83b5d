"""What every tokenizer backend offers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.tokenizer.backends.piece_table import PieceTable


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoded:
    """The ids of one text, and where each begins and ends in characters of it."""

    ids: Sequence[int]
    offsets: Sequence[tuple[int, int]] = ()


class TokenizerBackend(Protocol):
    """One tokenizer. Its methods may be called from several threads at once."""

    name: str
    vocabulary_size: int
    bos_id: int | None
    eos_id: int | None
    unknown_id: int | None
    padding_id: int | None
    special_ids: Mapping[str, int]  # text of each special token -> id

    @property
    def pieces(self) -> PieceTable | None:
        """What each id adds to a text; None where that depends on the ids around it."""

    def encode(
        self, texts: Sequence[str], *, add_special_tokens: bool, offsets: bool = False
    ) -> list[Encoded]:
        """Encodes what users wrote: special tokens in it are ordinary text."""

    def encode_template(self, text: str) -> Sequence[int]:
        """Encodes what a chat template wrote: special tokens in it are ids, none is added."""

    def split_template(self, text: str) -> list[str | int]:
        """The parts of what a chat template wrote: special ids, and the text between them."""

    def encode_parts(self, parts: Sequence[str | int]) -> Sequence[int]:
        """Encodes such parts; special tokens within a text are ordinary text. With the parts of
        `split_template(text)` this is `encode_template(text)`.
        """

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        """The text of ids that are all in the vocabulary."""

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that one id stands for in the middle of a text; a special token's own text."""
