"""Bounds what is held of one request before its client has it.

A stream that is read costs little, whatever it carries. An answer that is sent at once is held as a
whole, and so is a stream that is not read: with the likeliest tokens at each position of several
outputs that would be gigabytes.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.events import Token
from octavo.errors import InvalidArgumentError

# About 64 MB in this process, and 12 MB on the wire, which takes 32 MiB.
MAX_TOKENS_HELD = 2**19
# Of text and of the tokens that it is made of: some tokens are a hundred spaces.
MAX_BYTES_HELD = 16 * 1024 * 1024


class AnswerSize:
    """Counts the tokens of an answer that grows, the likeliest ones among them, and their bytes."""

    def __init__(self) -> None:
        self._num_tokens = 0
        self._num_bytes = 0

    def add(self, tokens: Sequence[Token], text: str = "") -> None:
        """Raises InvalidArgumentError where the answer has become too large."""
        self._num_tokens += num_tokens_in(tokens)
        self._num_bytes += len(text) + sum(len(token.bytes) for token in tokens)
        if self._num_tokens > MAX_TOKENS_HELD:
            raise _too_large(f"{MAX_TOKENS_HELD} tokens, the likeliest ones counted in")
        if self._num_bytes > MAX_BYTES_HELD:
            raise _too_large(f"{MAX_BYTES_HELD} bytes")


def num_tokens_in(tokens: Sequence[Token]) -> int:
    """The tokens and the likeliest ones in their places."""
    return len(tokens) + sum(len(token.top) for token in tokens)


def _too_large(limit: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"The answer has more than {limit}; stream it, or ask for less.",
        reason="ANSWER_TOO_LARGE",
        metadata={"limit": limit},
    )
