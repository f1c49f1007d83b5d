"""Whether a tokenizer.json's decoder does no more than join bytes, and then the table of them."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from tokenizers import Tokenizer

from services.tokenizer.backends.piece_table import LeadingSpace, PieceTable, fallback_byte

_SPACE = "▁"  # what stands for a space in the vocabularies that come from sentencepiece

# Texts with which the table is compared with the library's own decoder.
_PROBES = (
    "Hello world",
    "  two  spaces\n\ttabs ",
    "Grüße, naïve café",
    "日本語 русский עברית",
    "🦙 and 👩‍👩‍👧 and ½ ² Ⅷ",
    "def f(x):\n    return x**2  # code",
)


def piece_table(
    decoder: Any, tokens: Sequence[str], special: AbstractSet[int], tokenizer: Tokenizer
) -> PieceTable | None:
    """The table for `tokens`, the text of each id. None where the decoder is of another kind, or
    the table does not give what the library gives.
    """
    steps = _steps(decoder)
    names = [step["type"] for step in steps]
    if names == ["ByteLevel"]:
        piece, leading_space = _byte_level_piece, LeadingSpace.KEPT
    elif "ByteFallback" in names:
        piece, leading_space = _byte_fallback_piece, _leading_space(steps)
    elif names == ["Metaspace"]:
        piece, leading_space = _spaced_piece, _leading_space(steps)
    else:
        return None
    table = PieceTable(
        pieces=[b"" if number in special else piece(token) for number, token in enumerate(tokens)],
        special={number: tokens[number].encode() for number in special},
        leading_space=leading_space,
    )
    return table if _agrees(table, tokenizer) else None


def _agrees(table: PieceTable, tokenizer: Tokenizer) -> bool:
    for probe in _PROBES:
        ids = tokenizer.encode(probe, add_special_tokens=False).ids
        text = tokenizer.decode(ids, skip_special_tokens=True)
        if table.text(ids, skip_special_tokens=True) != text:
            return False
    return True


def _steps(decoder: Any) -> list[dict[str, Any]]:
    if decoder is None:
        return []
    return list(decoder["decoders"]) if decoder["type"] == "Sequence" else [decoder]


def _leading_space(steps: Sequence[dict[str, Any]]) -> LeadingSpace:
    for step in steps:
        if step["type"] == "Strip" and step.get("content") == " " and step.get("start") == 1:
            return LeadingSpace.ONE_DROPPED
        if step["type"] == "Metaspace":
            default = "always" if step.get("add_prefix_space", True) else "never"
            is_kept = step.get("prepend_scheme", default) == "never"
            return LeadingSpace.KEPT if is_kept else LeadingSpace.ALL_DROPPED
    return LeadingSpace.KEPT


def _byte_characters() -> dict[str, int]:
    """The characters that stand for bytes in byte-level vocabularies (GPT-2's table): the printable
    ones of Latin-1 stand for themselves, the other bytes in order for U+0100 and up.
    """
    itself = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in itself]
    table = {chr(byte): byte for byte in itself}
    table.update({chr(0x100 + index): byte for index, byte in enumerate(others)})
    return table


_BYTE_OF = _byte_characters()


def _byte_level_piece(token: str) -> bytes:
    try:
        return bytes(_BYTE_OF[character] for character in token)
    except KeyError:  # a token that was added as plain text
        return token.encode()


def _byte_fallback_piece(token: str) -> bytes:
    byte = fallback_byte(token)
    return _spaced_piece(token) if byte is None else bytes([byte])


def _spaced_piece(token: str) -> bytes:
    return token.replace(_SPACE, " ").encode()
