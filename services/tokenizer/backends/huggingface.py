"""tokenizer.json through the `tokenizers` library."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from octavo.errors import FailedPreconditionError
from services.tokenizer.backends.backend import Encoded
from services.tokenizer.tokenizer_config import TokenizerConfig

_SPACE = "▁"  # what stands for a space in the vocabularies that come from sentencepiece

# Texts with which the table of pieces is compared with the library's own decoder.
_PROBES = (
    "Hello world",
    "  two  spaces\n\ttabs ",
    "Grüße, naïve café",
    "日本語 русский עברית",
    "🦙 and 👩‍👩‍👧 and ½ ² Ⅷ",
    "def f(x):\n    return x**2  # code",
)


class HuggingFaceBackend:
    """One tokenizer.json. Two instances of it: users' text may name special tokens, templates mean
    them. Neither is changed after it was loaded, so threads may share them.
    """

    name = "huggingface"

    def __init__(self, path: Path, config: TokenizerConfig) -> None:
        try:
            self._template = _load(path)
            self._user = _load(path)
        except Exception as error:  # the library raises bare Exception for a bad file
            raise FailedPreconditionError(
                f"{path}: {error}", reason="BAD_TOKENIZER_FILE"
            ) from error
        self._user.encode_special_tokens = True
        self._decoder = json.loads(path.read_text(encoding="utf-8")).get("decoder")
        added = self._template.get_added_tokens_decoder()
        self.special_ids: Mapping[str, int] = {
            token.content: number for number, token in added.items() if token.special
        }
        self._special = frozenset(self.special_ids.values())
        self._added = {number: token.content for number, token in added.items()}
        vocabulary = self._template.get_vocab(with_added_tokens=True)
        self.vocabulary_size = max(vocabulary.values(), default=-1) + 1
        self.bos_id = self._id(config, "bos_token")
        self.eos_id = self._id(config, "eos_token")
        self.unknown_id = self._id(config, "unk_token")
        self.padding_id = self._id(config, "pad_token")

    def encode(
        self, texts: Sequence[str], *, add_special_tokens: bool, offsets: bool = False
    ) -> list[Encoded]:
        """See TokenizerBackend. The fast call, which keeps no offsets, also holds the GIL less."""
        call = self._user.encode_batch if offsets else self._user.encode_batch_fast
        encodings = call(list(texts), add_special_tokens=add_special_tokens)
        return [
            Encoded(ids=encoding.ids, offsets=encoding.offsets if offsets else ())
            for encoding in encodings
        ]

    def encode_template(self, text: str) -> Sequence[int]:
        """See TokenizerBackend."""
        encodings = self._template.encode_batch_fast([text], add_special_tokens=False)
        return list(encodings[0].ids)

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        """See TokenizerBackend."""
        return str(self._template.decode(list(ids), skip_special_tokens=skip_special_tokens))

    def token_bytes(self, token_id: int) -> bytes:
        """See TokenizerBackend."""
        if token_id in self._special or self.pieces is None:
            return self._text(token_id).encode()
        return self.pieces[token_id]

    @cached_property
    def pieces(self) -> Sequence[bytes] | None:
        """See TokenizerBackend. Only where the decoder is of a kind that is known to join pieces,
        and does so on the probes.
        """
        kind = _decoder_kind(self._decoder)
        if kind is None:
            return None
        piece = _byte_level_piece if kind == "byte_level" else _byte_fallback_piece
        table = [
            b"" if number in self._special else piece(self._text(number))
            for number in range(self.vocabulary_size)
        ]
        return table if self._agrees(table) else None

    @cached_property
    def strips_leading_space(self) -> bool:
        """See TokenizerBackend."""
        return _strips_leading_space(self._decoder)

    def _agrees(self, table: Sequence[bytes]) -> bool:
        for probe in _PROBES:
            ids = self._user.encode(probe, add_special_tokens=False).ids
            text = b"".join(table[number] for number in ids).decode(errors="replace")
            if self.strips_leading_space:
                text = text.removeprefix(" ")
            if text != self._template.decode(ids, skip_special_tokens=True):
                return False
        return True

    def _text(self, token_id: int) -> str:
        return self._added.get(token_id) or self._template.id_to_token(token_id) or ""

    def _id(self, config: TokenizerConfig, name: str) -> int | None:
        text = config.tokens.get(name)
        number = None if text is None else self._template.token_to_id(text)
        return None if number is None else int(number)


def _load(path: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _steps(decoder: Any) -> list[dict[str, Any]]:
    if decoder is None:
        return []
    return decoder["decoders"] if decoder["type"] == "Sequence" else [decoder]


def _decoder_kind(decoder: Any) -> str | None:
    """byte_level, byte_fallback, or None where text is not just the pieces joined."""
    names = [step["type"] for step in _steps(decoder)]
    if names == ["ByteLevel"]:
        return "byte_level"
    fallback = ["Replace", "ByteFallback", "Fuse"]
    if names in (fallback, [*fallback, "Strip"], ["ByteFallback", "Metaspace"], ["Metaspace"]):
        return "byte_fallback"
    return None


def _strips_leading_space(decoder: Any) -> bool:
    for step in _steps(decoder):
        if step["type"] == "Strip":
            return bool(step.get("content") == " " and step.get("start") == 1)
        if step["type"] == "Metaspace":
            scheme = step.get("prepend_scheme", "always")
            return bool(scheme != "never" and step.get("add_prefix_space", True))
    return False


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
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        try:
            return bytes([int(token[3:5], 16)])
        except ValueError:
            pass
    return token.replace(_SPACE, " ").encode()
