"""An excerpt of Llama 2's vocabulary in both files: the pieces that stand where its ids are known.

32,000 pieces, of which those of PIECES and of the bytes have the ids of the real vocabulary; other
letters, and what merges go through, have ids of their own; the rest can never come of a text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from sentencepiece import sentencepiece_model_pb2
from tokenizers import models, normalizers, pre_tokenizers

from tests.services.tokenizer import vocabularies

SIZE = 32_000
PIECES = {
    "▁▁": 259,
    "▁[": 518,
    "</": 829,
    "▁world": 3186,
    "▁<<": 3532,
    ">>": 6778,
    "SY": 14816,
    "▁Hello": 15043,
    "INST": 25580,
    "▁": 29871,
    "S": 29903,
    "/": 29914,
    "]": 29962,
    "<": 29966,
}
# What the pieces of several letters are made of, in the order in which they are merged.
_MERGED = [
    "▁[",
    "</",
    "▁<",
    "▁<<",
    ">>",
    "SY",
    "IN",
    "ST",
    "INST",
    "▁▁",
    "▁H",
    "▁He",
    "▁Hel",
    "▁Hell",
    "▁Hello",
    "▁w",
    "▁wo",
    "▁wor",
    "▁worl",
    "▁world",
]
_LETTERS = list(map(chr, range(0x21, 0x7F)))
_SPECIAL = ("<unk>", "<s>", "</s>")


@cache
def vocabulary() -> dict[str, int]:
    """Piece -> id."""
    ids = {piece: number for number, piece in enumerate(_SPECIAL)}
    ids |= {f"<0x{byte:02X}>": 3 + byte for byte in range(256)} | PIECES
    free = (number for number in range(1000, SIZE) if number not in PIECES.values())
    for piece in (*_MERGED, *_LETTERS):
        if piece not in ids:
            ids[piece] = next(free)
    taken = set(ids.values())
    return ids | {f"<never {n}>": n for n in range(SIZE) if n not in taken}


def write_model(folder: Path) -> Path:
    """Writes tokenizer.model."""
    proto = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined] # made at run time
    kinds = proto.SentencePiece
    for piece, number in sorted(vocabulary().items(), key=lambda item: item[1]):
        rank = _MERGED.index(piece) if piece in _MERGED else SIZE
        entry = proto.pieces.add(piece=piece, score=-float(rank))
        if number == 0:
            entry.type = kinds.UNKNOWN
        elif number < 3:
            entry.type = kinds.CONTROL
        elif number < 259:
            entry.type = kinds.BYTE
        elif piece.startswith("<never"):
            entry.type = kinds.UNUSED
    proto.trainer_spec.model_type = proto.trainer_spec.BPE
    proto.trainer_spec.byte_fallback = True
    proto.normalizer_spec.name = "identity"
    proto.normalizer_spec.add_dummy_prefix = True
    proto.normalizer_spec.remove_extra_whitespaces = False
    (folder / "tokenizer.model").write_bytes(proto.SerializeToString())
    return folder


def write_json(
    folder: Path,
    ids: dict[str, int],
    merges: Sequence[tuple[str, str]],
    *,
    is_legacy: bool = True,
) -> Path:
    """Writes a tokenizer.json with Llama 2's pipeline, of any vocabulary of this kind.

    One that is not legacy puts a space before the first text alone, not after special tokens.
    """
    model = models.BPE(ids, list(merges), unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = vocabularies.llama2_pipeline(model, bos_id=ids["<s>"])
    if is_legacy:
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.add_special_tokens(list(_SPECIAL))
    tokenizer.save(str(folder / "tokenizer.json"))
    texts = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(texts))
    return folder


def write_excerpt_json(folder: Path, *, is_legacy: bool = True) -> Path:
    """Writes tokenizer.json, and a tokenizer_config.json without a template."""
    ids = vocabulary()
    known = set(_LETTERS) | {"▁"}
    merges = []
    for piece in _MERGED:
        cut = next(n for n in range(1, len(piece)) if {piece[:n], piece[n:]} <= known)
        merges.append((piece[:cut], piece[cut:]))
        known.add(piece)
    return write_json(folder, ids, merges, is_legacy=is_legacy)
