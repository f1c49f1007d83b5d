"""Log probabilities as OpenAI's clients read them: one shape for chats, another for completions.

A token is shown as its text. One that holds a part of a character has none: it is shown as its
bytes in hexadecimal, as OpenAI does.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Any

from gateway.events import Token, TopToken

# What stands for anything below it: JSON has no infinity.
_LOWEST = -9999.0


def chat_logprobs(tokens: Sequence[Token]) -> dict[str, Any]:
    """`logprobs` of a chat's choice, or of a chunk of it."""
    return {"content": [_content(token) for token in tokens], "refusal": None}


def token_text(token_bytes: bytes) -> str:
    """A token as text, or as its bytes."""
    return _text(token_bytes) or _hexadecimal(token_bytes)


class CompletionLogprobs:
    """`logprobs` of one choice of a completion, or of its chunks one after the other: offsets go on
    from where the last chunk ended.
    """

    def __init__(self, prompt_tokens: Sequence[Token], num_prompt_characters: int) -> None:
        self._offsets = _Offsets()
        begins = [self._offsets.next(token.bytes) for token in prompt_tokens]
        # The text of a beginning-of-sequence id and a first space are tokens, but not the prompt's.
        surplus = max(0, self._offsets.num_characters - num_prompt_characters)
        self._prompt_begins = [max(0, begin - surplus) for begin in begins]
        self._offsets = _Offsets(num_prompt_characters)
        self._waiting = list(prompt_tokens)

    def fields(self, tokens: Sequence[Token]) -> dict[str, Any]:
        """The four lists for these tokens; the first time the prompt's come before them."""
        begins = [*self._prompt_begins, *(self._offsets.next(token.bytes) for token in tokens)]
        shown = [*self._waiting, *tokens]
        self._prompt_begins, self._waiting = [], []
        return {
            "tokens": [_completion_text(token.bytes) for token in shown],
            "token_logprobs": [_bounded(token.logprob) for token in shown],
            "top_logprobs": [_top_by_text(token) for token in shown],
            "text_offset": begins,
        }


class _Offsets:
    """Where tokens begin in a text, in characters. A part of a character begins where it does."""

    def __init__(self, begin: int = 0) -> None:
        self.num_characters = begin
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def next(self, token_bytes: bytes) -> int:
        begin = self.num_characters
        self.num_characters += len(self._utf8.decode(token_bytes))
        return begin


def _content(token: Token) -> dict[str, Any]:
    return {**_scored(token), "top_logprobs": [_scored(top) for top in token.top]}


def _scored(token: Token | TopToken) -> dict[str, Any]:
    return {
        "token": token_text(token.bytes),
        "logprob": _bounded(token.logprob),
        "bytes": list(token.bytes),
    }


def _top_by_text(token: Token) -> dict[str, float | None] | None:
    """The likeliest and the token itself, which need not be among them."""
    if token.logprob is None:
        return None
    top = {_completion_text(top.bytes): _bounded(top.logprob) for top in token.top}
    return {**top, _completion_text(token.bytes): _bounded(token.logprob)}


def _completion_text(token_bytes: bytes) -> str:
    text = _text(token_bytes)
    return f"bytes:{_hexadecimal(token_bytes)}" if text is None else text


def _text(token_bytes: bytes) -> str | None:
    try:
        return token_bytes.decode()
    except UnicodeDecodeError:
        return None


def _hexadecimal(token_bytes: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in token_bytes)


def _bounded(logprob: float | None) -> float | None:
    if logprob is None:
        return None
    return max(_LOWEST, logprob)
