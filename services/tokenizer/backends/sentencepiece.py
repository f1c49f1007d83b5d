"""tokenizer.model through the `sentencepiece` library."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sentencepiece import SentencePieceProcessor, sentencepiece_model_pb2

from octavo.errors import FailedPreconditionError
from services.tokenizer.backends.backend import Encoded
from services.tokenizer.backends.piece_table import LeadingSpace, PieceTable, fallback_byte
from services.tokenizer.tokenizer_config import TokenizerConfig

_SPACE = "▁"
_MODEL = sentencepiece_model_pb2.ModelProto  # type: ignore[attr-defined] # made at run time


class SentencePieceBackend:
    """One tokenizer.model, and the tokens that tokenizer_config.json adds to it.

    What templates write is split at special tokens first, and each part between them is encoded by
    itself: the reference code of Llama 2 does so, and each part gets the space that the model puts
    before every text. The library never finds control pieces such as `<s>` in a text; pieces that
    it would find, but that the configuration calls special, are hidden from it.
    """

    name = "sentencepiece"

    def __init__(self, path: Path, config: TokenizerConfig) -> None:
        try:
            model = _MODEL.FromString(path.read_bytes())
            if not model.pieces:
                raise ValueError("a model without pieces")  # noqa: TRY301 - named as any bad file
            hidden = config.special_added_tokens
            for piece in model.pieces:
                if piece.type == _MODEL.SentencePiece.USER_DEFINED and piece.piece in hidden:
                    piece.type = _MODEL.SentencePiece.UNUSED
            self._model = SentencePieceProcessor(model_proto=model.SerializeToString())
        except Exception as error:  # the libraries raise what they like for a bad file
            raise FailedPreconditionError(
                f"{path}: {error}", reason="BAD_TOKENIZER_FILE"
            ) from error
        tokens = {number: piece.piece for number, piece in enumerate(model.pieces)}
        added = {
            number: token
            for number, (token, _) in config.added_tokens.items()
            if number >= len(tokens)
        }
        self.vocabulary_size = max([*tokens, *added], default=-1) + 1
        self.special_ids: Mapping[str, int] = {
            **{
                token: number
                for number, token in tokens.items()
                if self._model.is_control(number)
                or self._model.is_unknown(number)
                or token in hidden
            },
            **{token: number for number, token in added.items() if token in hidden},
        }
        longest_first = sorted(self.special_ids, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self.bos_id = _id_or_none(self._model.bos_id())
        self.eos_id = _id_or_none(self._model.eos_id())
        self.unknown_id = _id_or_none(self._model.unk_id())
        self.padding_id = _id_or_none(self._model.pad_id())
        self._adds_bos = config.add_bos_token is not False
        self._adds_eos = bool(config.add_eos_token)
        self.pieces = self._piece_table(
            {**tokens, **added}, bool(model.normalizer_spec.add_dummy_prefix)
        )

    def encode(
        self, texts: Sequence[str], *, add_special_tokens: bool, offsets: bool = False
    ) -> list[Encoded]:
        """See TokenizerBackend."""
        return [self._encode_one(text, add_special_tokens, offsets) for text in texts]

    def encode_template(self, text: str) -> Sequence[int]:
        """See TokenizerBackend."""
        return self.encode_parts(self.split_template(text))

    def split_template(self, text: str) -> list[str | int]:
        """See TokenizerBackend."""
        return list(self._split(text))

    def encode_parts(self, parts: Sequence[str | int]) -> Sequence[int]:
        """See TokenizerBackend."""
        ids: list[int] = []
        for part in parts:
            ids += [part] if isinstance(part, int) else self._model.encode(part)
        return ids

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        """See TokenizerBackend."""
        return self.pieces.text(ids, skip_special_tokens=skip_special_tokens)

    def token_bytes(self, token_id: int) -> bytes:
        """See TokenizerBackend."""
        return self.pieces.token_bytes(token_id)

    def _encode_one(self, text: str, add_special_tokens: bool, offsets: bool) -> Encoded:
        before = [self.bos_id] if add_special_tokens and self._adds_bos else []
        after = [self.eos_id] if add_special_tokens and self._adds_eos else []
        head = [number for number in before if number is not None]
        tail = [number for number in after if number is not None]
        if not offsets:
            return Encoded(ids=[*head, *self._model.encode(text), *tail])
        found = self._model.encode(text, out_type="offset_mapping")
        end = (len(text), len(text))
        return Encoded(
            ids=[*head, *found["ids"], *tail],
            offsets=[*((0, 0) for _ in head), *found["offsets"], *(end for _ in tail)],
        )

    def _split(self, text: str) -> Iterator[str | int]:
        start = 0
        for match in self._special.finditer(text):
            yield text[start : match.start()]
            yield self.special_ids[match[0]]
            start = match.end()
        yield text[start:]

    def _piece_table(self, tokens: Mapping[int, str], dummy_prefix: bool) -> PieceTable:
        special = frozenset(self.special_ids.values())
        return PieceTable(
            pieces=[
                b"" if number in special else self._piece(number, tokens.get(number, ""))
                for number in range(self.vocabulary_size)
            ],
            special={number: token.encode() for token, number in self.special_ids.items()},
            leading_space=LeadingSpace.ONE_DROPPED if dummy_prefix else LeadingSpace.KEPT,
        )

    def _piece(self, token_id: int, token: str) -> bytes:
        if token_id >= self._model.get_piece_size():
            return token.encode()
        byte = fallback_byte(token) if self._model.is_byte(token_id) else None
        return token.replace(_SPACE, " ").encode() if byte is None else bytes([byte])


def _id_or_none(token_id: int) -> int | None:
    return token_id if token_id >= 0 else None
