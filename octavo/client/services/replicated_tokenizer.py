"""All tokenizers of one fingerprint as one, for as long as any of them serves."""

from __future__ import annotations

import time
from typing import Any

from octavo.client.services.durable_decoder import DurableDecoder, PieceSink
from octavo.client.services.tokenizer import CALL_TIMEOUT_S, TokenizerClient
from octavo.client.services.tokenizer_calls import TokenizerCalls
from octavo.client.services.tokenizer_pool import Incarnation, TokenizerPool
from octavo.client.services.tokenizer_types import DecoderOptions, TokenizerDescription
from octavo.errors import UnavailableError


class ReplicatedTokenizer(TokenizerCalls):
    """A call that is lost with its tokenizer is made once more, a decoder is opened again."""

    def __init__(self, description: TokenizerDescription, pool: TokenizerPool) -> None:
        self.description = description
        self._pool = pool

    def open_decoder(self, options: DecoderOptions, sink: PieceSink) -> DurableDecoder:
        """A decoder for one output."""
        return DurableDecoder(self.description.fingerprint, options, sink, self._pool)

    async def call(self, method: str, request: Any, timeout_s: float | None) -> Any:
        """See TokenizerCalls. No call changes anything, so that any may be made again."""
        ends_at = time.monotonic() + (CALL_TIMEOUT_S if timeout_s is None else timeout_s)
        tokenizer = await self._serving(ends_at)
        tried = Incarnation.of(tokenizer)
        try:
            return await tokenizer.call(method, request, ends_at - time.monotonic())
        except UnavailableError as error:
            try:
                tokenizer = await self._serving(ends_at, besides=tried)
            except UnavailableError:
                raise error from None
        return await tokenizer.call(method, request, ends_at - time.monotonic())

    async def _serving(
        self, ends_at: float, *, besides: Incarnation | None = None
    ) -> TokenizerClient:
        within_s = ends_at - time.monotonic()
        return await self._pool.wait_for(
            self.description.fingerprint, besides=besides, within_s=within_s
        )
