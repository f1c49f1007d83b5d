"""tokenizer.model through the `sentencepiece` library."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sentencepiece import SentencePieceProcessor

from octavo.errors import FailedPreconditionError
from services.tokenizer.backends.backend import Encoded
from services.tokenizer.tokenizer_config import TokenizerConfig

_SPACE = "▁"


class SentencePieceBackend:
    """One tokenizer.model, and the tokens that tokenizer_config.json adds to it.

    The library never finds control pieces such as `<s>` in a text, so what users write is safe by
    itself; what templates write is split at special tokens first, and each part between them is
    encoded by itself, as the reference code of Llama 2 does.
    """

    name = "sentencepiece"

    def __init__(self, path: Path, config: TokenizerConfig) -> None:
        try:
            self._model = SentencePieceProcessor(model_file=str(path))
        except (OSError, RuntimeError) as error:
            raise FailedPreconditionError(
                f"{path}: {error}", reason="BAD_TOKENIZER_FILE"
            ) from error
        self._size = self._model.get_piece_size()
        self._added = {
            number: token for number, token in config.added_tokens.items() if number >= self._size
        }
        self.vocabulary_size = max([self._size - 1, *self._added]) + 1
        self.special_ids: Mapping[str, int] = {
            **{
                self._model.id_to_piece(number): number
                for number in range(self._size)
                if self._model.is_control(number) or self._model.is_unknown(number)
            },
            **{text: number for number, (text, special) in self._added.items() if special},
        }
        self._special = frozenset(self.special_ids.values())
        self.bos_id = _id_or_none(self._model.bos_id())
        self.eos_id = _id_or_none(self._model.eos_id())
        self.unknown_id = _id_or_none(self._model.unk_id())
        self.padding_id = _id_or_none(self._model.pad_id())
        self._adds_bos = config.add_bos_token is not False
        self._adds_eos = bool(config.add_eos_token)
        self._pieces = [self._piece(number) for number in range(self.vocabulary_size)]
        texts = sorted(self.special_ids, key=len, reverse=True)
        self._special_pattern = re.compile("|".join(map(re.escape, texts)))
        self._strips = self._model.decode(self._model.encode("x")) == "x" and bool(
            self._model.encode("x", out_type=str)[0].startswith(_SPACE)
        )

    def encode(
        self, texts: Sequence[str], *, add_special_tokens: bool, offsets: bool = False
    ) -> list[Encoded]:
        """See TokenizerBackend."""
        return [self._encode_one(text, add_special_tokens, offsets) for text in texts]

    def encode_template(self, text: str) -> Sequence[int]:
        """See TokenizerBackend."""
        ids: list[int] = []
        for part, special_id in self._split(text):
            if part:
                ids.extend(self._model.encode(part))
            if special_id is not None:
                ids.append(special_id)
        return ids

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        """See TokenizerBackend."""
        pieces = self._pieces
        if not skip_special_tokens:
            shown = [
                self.token_bytes(number) if number in self._special else pieces[number]
                for number in ids
            ]
        else:
            shown = [pieces[number] for number in ids]
        data = b"".join(shown)
        return (data.removeprefix(b" ") if self._strips else data).decode(errors="replace")

    def token_bytes(self, token_id: int) -> bytes:
        """See TokenizerBackend."""
        if token_id in self._special:
            return self._text(token_id).encode()
        return self._pieces[token_id]

    @property
    def pieces(self) -> Sequence[bytes] | None:
        """See TokenizerBackend."""
        return self._pieces

    @property
    def strips_leading_space(self) -> bool:
        """See TokenizerBackend: true where the model puts a space before every text."""
        return self._strips

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

    def _split(self, text: str) -> Iterator[tuple[str, int | None]]:
        """The parts of `text`, each with the special id that follows it."""
        start = 0
        if self.special_ids:
            for match in self._special_pattern.finditer(text):
                yield text[start : match.start()], self.special_ids[match[0]]
                start = match.end()
        yield text[start:], None

    def _piece(self, token_id: int) -> bytes:
        if token_id in self._special or token_id in self._added or token_id >= self._size:
            return b"" if token_id in self._special else self._text(token_id).encode()
        if self._model.is_byte(token_id):
            return bytes([int(self._model.id_to_piece(token_id)[3:5], 16)])
        return str(self._model.id_to_piece(token_id)).replace(_SPACE, " ").encode()

    def _text(self, token_id: int) -> str:
        if token_id in self._added:
            return self._added[token_id][0]
        return str(self._model.id_to_piece(token_id)) if token_id < self._size else ""


def _id_or_none(token_id: int) -> int | None:
    return token_id if token_id >= 0 else None
