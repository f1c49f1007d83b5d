"""The bytes of each token of a vocabulary, fetched from the tokenizer when first needed.

What is generated comes with its bytes from the decoder. Other tokens that an answer names (the
likeliest ones, those of the prompt) are looked up here, without a call to the tokenizer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from gateway.events import Token, TopToken
from octavo.client.services.replicated_tokenizer import ReplicatedTokenizer
from octavo.client.services.worker_types import TokenLogprob
from octavo.errors import DeadlineExceededError

_PIECE_TOKENS = 8_192
# Fingerprints change with the files of a model, so few are in use at once.
_MAX_TABLES = 4


class TokenTable:
    """`pieces[id]` are the bytes of an id. An id past the tokenizer's vocabulary has none."""

    def __init__(self, pieces: Sequence[bytes] = ()) -> None:
        self._pieces = pieces

    def token(self, token_id: int, logprob: TokenLogprob | None) -> Token:
        """A token that did not come through a decoder."""
        return scored_token(token_id, self._bytes_of(token_id), logprob, self)

    def top(self, logprob: TokenLogprob) -> tuple[TopToken, ...]:
        """The likeliest tokens at a position."""
        return tuple(
            TopToken(id=token_id, bytes=self._bytes_of(token_id), logprob=value)
            for token_id, value in zip(logprob.top_token_ids, logprob.top_logprobs, strict=True)
        )

    def _bytes_of(self, token_id: int) -> bytes:
        return self._pieces[token_id] if token_id < len(self._pieces) else b""


def scored_token(
    token_id: int, token_bytes: bytes, logprob: TokenLogprob | None, table: TokenTable
) -> Token:
    """A token with its log probability, where there is one."""
    if logprob is None:
        return Token(id=token_id, bytes=token_bytes)
    return Token(id=token_id, bytes=token_bytes, logprob=logprob.logprob, top=table.top(logprob))


class TokenTables:
    """The tables of the tokenizers in use, by fingerprint. Requests that need one at the same time
    wait for the same fetch.
    """

    def __init__(self) -> None:
        self._fetches: dict[str, asyncio.Task[TokenTable]] = {}

    async def table(self, tokenizer: ReplicatedTokenizer, *, timeout_s: float | None) -> TokenTable:
        """The table of the tokenizer's vocabulary."""
        fetch = self._fetch(tokenizer, tokenizer.description.fingerprint)
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(fetch)
        except TimeoutError:
            message = "The deadline of the request passed while the vocabulary was fetched."
            raise DeadlineExceededError(message) from None

    def _fetch(self, tokenizer: ReplicatedTokenizer, fingerprint: str) -> asyncio.Task[TokenTable]:
        fetch = self._fetches.get(fingerprint)
        if fetch is None:
            while len(self._fetches) >= _MAX_TABLES:
                self._fetches.pop(next(iter(self._fetches)))
            fetch = self._fetches[fingerprint] = asyncio.create_task(_fetched(tokenizer))
            fetch.add_done_callback(partial(self._forget_failure, fingerprint))
        return fetch

    def _forget_failure(self, fingerprint: str, fetch: asyncio.Task[TokenTable]) -> None:
        """The next request tries again."""
        has_failed = fetch.cancelled() or fetch.exception() is not None
        if has_failed and self._fetches.get(fingerprint) is fetch:
            del self._fetches[fingerprint]


async def _fetched(tokenizer: ReplicatedTokenizer) -> TokenTable:
    size = tokenizer.description.vocabulary_size
    pieces: list[bytes] = []
    for begin in range(0, size, _PIECE_TOKENS):
        ids = range(begin, min(begin + _PIECE_TOKENS, size))
        pieces += await tokenizer.token_bytes(ids)
    return TokenTable(pieces)
