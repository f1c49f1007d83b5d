"""tokenizer.json through the `tokenizers` library."""

from __future__ import annotations

import copy
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from octavo.errors import FailedPreconditionError
from services.tokenizer.backends.backend import Encoded
from services.tokenizer.backends.decoder_kind import piece_table
from services.tokenizer.backends.piece_table import PieceTable
from services.tokenizer.tokenizer_config import TokenizerConfig


class HuggingFaceBackend:
    """One tokenizer.json, loaded once for each way in which it is used: a template means the
    special tokens that it writes, users do not. None is changed after it was loaded, so threads may
    share them (the library raises "Already borrowed" where one is changed while another reads it).
    """

    name = "huggingface"

    def __init__(self, path: Path, config: TokenizerConfig) -> None:
        try:
            description = _description(path, config)
            self._template = _load(description)
            self._user = _load(description, user=True)
            within = _without_first_space(description)
            self._user_within = self._user if within is None else _load(within, user=True)
        except Exception as error:  # the library raises bare Exception for a bad file
            raise FailedPreconditionError(
                f"{path}: {error}", reason="BAD_TOKENIZER_FILE"
            ) from error
        self._added = self._template.get_added_tokens_decoder()
        self.special_ids: Mapping[str, int] = {
            token.content: number for number, token in self._added.items() if token.special
        }
        self._special = frozenset(self.special_ids.values())
        vocabulary = self._template.get_vocab(with_added_tokens=True)
        self.vocabulary_size = max(vocabulary.values(), default=-1) + 1
        self.bos_id = self._id(config, "bos_token")
        self.eos_id = self._id(config, "eos_token")
        self.unknown_id = self._id(config, "unk_token")
        self.padding_id = self._id(config, "pad_token")
        self.pieces: PieceTable | None = piece_table(
            description.get("decoder"),
            [self._text(number) for number in range(self.vocabulary_size)],
            self._special,
            self._user,
        )

    def encode(
        self, texts: Sequence[str], *, add_special_tokens: bool, offsets: bool = False
    ) -> list[Encoded]:
        """See TokenizerBackend. `encode_batch` lets go of the GIL, which `encode` holds throughout;
        the fast call keeps no offsets.
        """
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

    def split_template(self, text: str) -> list[str | int]:
        """See TokenizerBackend. The library itself finds the special tokens, since some take the
        white space around them with them.
        """
        parts: list[str | int] = []
        start = 0
        for number, begin, end in self._specials_in(text):
            parts += [text[start:begin], number]
            start = end
        return [*parts, text[start:]]

    def encode_parts(self, parts: Sequence[str | int]) -> Sequence[int]:
        """See TokenizerBackend."""
        ids: list[int] = []
        for index, part in enumerate(parts):
            if isinstance(part, int):
                ids.append(part)
            elif part:
                user = self._user_within if index else self._user
                ids += user.encode_batch_fast([part], add_special_tokens=False)[0].ids
        return ids

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        """See TokenizerBackend."""
        if self.pieces is not None:
            return self.pieces.text(ids, skip_special_tokens=skip_special_tokens)
        return str(self._template.decode(list(ids), skip_special_tokens=skip_special_tokens))

    def token_bytes(self, token_id: int) -> bytes:
        """See TokenizerBackend."""
        if self.pieces is not None:
            return self.pieces.token_bytes(token_id)
        return self._text(token_id).encode()

    def _specials_in(self, text: str) -> Iterator[tuple[int, int, int]]:
        """Each special token that is written in `text`: id, begin, end. A token that the model made
        of other text (of an unknown character, say) has a special id too and is none of them.
        """
        encoding = self._template.encode_batch([text], add_special_tokens=False)[0]
        for number, (begin, end) in zip(encoding.ids, encoding.offsets, strict=True):
            if number in self._special and text[begin:end].strip() == self._text(number).strip():
                yield number, begin, end

    def _text(self, token_id: int) -> str:
        added = self._added.get(token_id)
        return added.content if added else self._template.id_to_token(token_id) or ""

    def _id(self, config: TokenizerConfig, name: str) -> int | None:
        text = config.tokens.get(name)
        number = None if text is None else self._template.token_to_id(text)
        return None if number is None else int(number)


def _description(path: Path, config: TokenizerConfig) -> dict[str, Any]:
    """tokenizer.json, in which all tokens are special that the configuration calls so."""
    description: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    special = {*config.tokens.values(), *config.special_added_tokens}
    for token in description.get("added_tokens") or ():
        token["special"] = token["special"] or token["content"] in special
    return description


def _load(description: dict[str, Any], *, user: bool = False) -> Tokenizer:
    if user:
        description = _without_special_names(description)
    tokenizer = Tokenizer.from_str(json.dumps(description))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = user  # as ordinary text
    return tokenizer


def _without_special_names(description: dict[str, Any]) -> dict[str, Any]:
    """The tokenizer with special tokens of names that nobody can write. Told to take their names
    for text, the library no longer looks for them, but some models (Unigram, WordLevel, BPE with
    `ignore_merges`) still find the names in their own vocabulary.
    """
    hidden = secrets.token_hex(16)
    added = description.get("added_tokens") or ()
    model = dict(description["model"])
    merged = _merged(model.get("merges") or ())  # those must be in the vocabulary as they are
    names = {
        token["content"]: hidden + token["content"]
        for token in added
        if token["special"] and token["content"] not in merged
    }
    if isinstance(model["vocab"], dict):
        model["vocab"] = {names.get(name, name): number for name, number in model["vocab"].items()}
        model["unk_token"] = names.get(model.get("unk_token"), model.get("unk_token"))
    else:  # Unigram's: pairs of a piece and its score
        model["vocab"] = [[names.get(name, name), score] for name, score in model["vocab"]]
    renamed = [
        {**token, "content": names.get(token["content"], token["content"])} for token in added
    ]
    return {**description, "model": model, "added_tokens": renamed}


def _merged(merges: Sequence[str | list[str]]) -> set[str]:
    """The tokens that take part in merges, and those that come of them."""
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
    return {token for pair in pairs for token in (*pair, "".join(pair))}


def _without_first_space(description: dict[str, Any]) -> dict[str, Any] | None:
    """The tokenizer for text that does not begin what is encoded, where that is another one: one
    that puts a space before the first word alone puts none there.
    """
    changed = copy.deepcopy(description.get("pre_tokenizer"))
    schemes = [step for step in _steps(changed) if step.get("prepend_scheme") == "first"]
    for step in schemes:
        step["prepend_scheme"] = "never"
    return {**description, "pre_tokenizer": changed} if schemes else None


def _steps(pre_tokenizer: Any) -> list[dict[str, Any]]:
    if pre_tokenizer is None:
        return []
    return list(pre_tokenizer.get("pretokenizers", [pre_tokenizer]))
