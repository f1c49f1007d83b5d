"""A decoder that survives its tokenizer: lost with one, it goes on with another.

What it has fed and what of that was answered says all that another tokenizer needs to know:

    ids   | answered: sent_bytes of text came of them | unanswered: to be fed again |
          0                                     num_answered                   len(ids)
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Sequence
from typing import Protocol

from octavo.client.services.decode_stream import Decoder
from octavo.client.services.tokenizer import TokenizerClient
from octavo.client.services.tokenizer_pool import TokenizerPool, no_tokenizer
from octavo.client.services.tokenizer_types import DecodedSoFar, DecoderOptions, Piece
from octavo.errors import OctavoError, UnavailableError

# Ids that end every tokenizer they are fed to must not end all of them.
MAX_LOSSES_WITHOUT_ANSWER = 3


class PieceSink(Protocol):
    """Who hears about an output. Called by a reader: must return at once."""

    def decoded(self, piece: Piece) -> None:
        """Takes what came of ids that were fed, in the order in which they were fed."""

    def fail(self, error: OctavoError) -> None:
        """Takes the failure of the decoder, after which nothing comes."""


class DurableDecoder:
    """One output that is being decoded by some tokenizer of a pool, one after the other."""

    def __init__(
        self, fingerprint: str, options: DecoderOptions, sink: PieceSink, pool: TokenizerPool
    ) -> None:
        self._fingerprint = fingerprint
        self._options = options
        self._sink = sink
        self._pool = pool
        self._ids = array("I")
        self._num_answered = 0
        self._sent_bytes = 0
        self._last = False
        self._decoder: Decoder | None = None
        self._search: asyncio.Task[None] | None = None
        self._num_losses = 0
        self._go_on(no_tokenizer())

    def feed(self, token_ids: Sequence[int], *, last: bool) -> None:
        """Decodes more ids; with `last` what is held back comes too and the decoder is gone."""
        self._ids.extend(token_ids)
        self._last = last
        if self._decoder is not None:
            self._decoder.feed(token_ids, last=last)

    def close(self) -> None:
        """Drops the decoder; nothing more is heard of it."""
        if self._decoder is not None:
            self._decoder.close()
        if self._search is not None:
            self._search.cancel()

    def decoded(self, piece: Piece) -> None:
        """Takes an answer of the tokenizer."""
        self._num_losses = 0
        self._num_answered += len(piece.token_ids)
        self._sent_bytes += len(piece.text.encode())
        self._sink.decoded(piece)

    def fail(self, error: OctavoError) -> None:
        """Takes the tokenizer's refusal."""
        self._sink.fail(error)

    def lose(self, error: OctavoError) -> None:
        """Hears that the tokenizer was lost."""
        self._decoder = None
        if self._last or self._num_answered < len(self._ids):
            self._num_losses += 1
        if self._num_losses > MAX_LOSSES_WITHOUT_ANSWER:
            self._sink.fail(error)
        else:
            self._go_on(error)

    def _go_on(self, error: OctavoError) -> None:
        """Opens with a tokenizer, now or once one serves; fails with `error` where none does."""
        tokenizer = self._pool.pick(self._fingerprint)
        if tokenizer is not None:
            self._open_with(tokenizer)
        else:
            self._search = asyncio.create_task(self._wait_for_one(error))

    async def _wait_for_one(self, error: OctavoError) -> None:
        try:
            tokenizer = await self._pool.wait_for(self._fingerprint)
        except UnavailableError:
            self._sink.fail(error)
        else:
            self._open_with(tokenizer)

    def _open_with(self, tokenizer: TokenizerClient) -> None:
        so_far = DecodedSoFar(
            token_ids=self._ids[: self._num_answered], sent_bytes=self._sent_bytes
        )
        self._decoder = tokenizer.open_decoder(self._options, self, so_far)
        unanswered = self._ids[self._num_answered :]
        if unanswered or self._last:
            self._decoder.feed(unanswered, last=self._last)
