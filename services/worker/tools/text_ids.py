"""A text as token ids, by the tokenizer's files in a checkpoint's folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sentencepiece import SentencePieceProcessor
from tokenizers import Tokenizer

from octavo.errors import InvalidArgumentError, NotFoundError


@dataclass(frozen=True, kw_only=True, slots=True)
class TextIds:
    """The ids of a text, and those that the tokenizer puts before every text (BOS, or none)."""

    ids: tuple[int, ...]
    prefix: tuple[int, ...]

    def windows(self, length: int) -> list[tuple[int, ...]]:
        """The text cut into windows of `length` ids, each begun by the prefix; the rest is last."""
        step = length - len(self.prefix)
        return [self.prefix + self.ids[at : at + step] for at in range(0, len(self.ids), step)]


def encode_text(folder: Path, text: str) -> TextIds:
    """`text` in the tokens of the model in `folder`; tokenizer.json goes before tokenizer.model.

    Raises NotFoundError without either, InvalidArgumentError for a file that is none.
    """
    if (folder / "tokenizer.json").is_file():
        return _by_tokenizer_json(folder / "tokenizer.json", text)
    if (folder / "tokenizer.model").is_file():
        return _by_sentencepiece(folder / "tokenizer.model", text)
    raise NotFoundError(
        f"{folder} holds neither tokenizer.json nor tokenizer.model.", reason="NO_TOKENIZER_FILE"
    )


def _by_tokenizer_json(path: Path, text: str) -> TextIds:
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:
        raise _bad_file(path, error) from error
    return TextIds(
        ids=tuple(tokenizer.encode(text, add_special_tokens=False).ids),
        prefix=tuple(tokenizer.encode("", add_special_tokens=True).ids[:1]),
    )


def _by_sentencepiece(path: Path, text: str) -> TextIds:
    try:
        tokenizer = SentencePieceProcessor(model_file=str(path))
    except (RuntimeError, OSError) as error:
        raise _bad_file(path, error) from error
    bos = tokenizer.bos_id()
    return TextIds(ids=tuple(tokenizer.encode(text)), prefix=(bos,) if bos >= 0 else ())


def _bad_file(path: Path, error: Exception) -> InvalidArgumentError:
    return InvalidArgumentError(f"{path}: {error}.", reason="BAD_TOKENIZER_FILE")
