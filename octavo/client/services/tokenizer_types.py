"""What a tokenizer service takes and gives, without protobuf."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerDescription:
    """What GetTokenizer answers."""

    fingerprint: str
    vocabulary_size: int
    has_chat_template: bool
    max_text_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TemplateMessage:
    """One message of a conversation."""

    role: str | None
    content: str | None
    name: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RenderedChat:
    """A conversation as ids, and the text that they stand for."""

    token_ids: Sequence[int]
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DecoderOptions:
    """How one output is decoded. `prompt_tail_ids`: the last ids of the prompt, at most 8;
    `min_tokens`: how many ids come before a stop text is obeyed; `request_id` is for logs.
    """

    prompt_tail_ids: Sequence[int]
    stop_texts: Sequence[str] = ()
    include_stop: bool = False
    token_bytes: bool = False
    min_tokens: int = 0
    request_id: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodedSoFar:
    """What another tokenizer has decoded of an output: its ids, and the bytes of their text."""

    token_ids: Sequence[int] = ()
    sent_bytes: int = 0


NOTHING_DECODED = DecodedSoFar()


@dataclass(frozen=True, kw_only=True, slots=True)
class StopMatch:
    """A stop text that matched, completed by the id at `token_index` of its piece."""

    text: str
    token_index: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """What came of some ids of one output: `token_ids` are those that were decoded, `last` as they
    were fed. `token_bytes` is empty unless asked for.
    """

    token_ids: Sequence[int]
    last: bool
    text: str
    token_bytes: Sequence[bytes]
    stop: StopMatch | None
