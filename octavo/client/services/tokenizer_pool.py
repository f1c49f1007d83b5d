"""The tokenizers that a client knows, and which of them takes what is new."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection
from dataclasses import dataclass

from octavo.client.services.tokenizer import TokenizerClient
from octavo.errors import UnavailableError

RETRY_DELAY_MS = 1_000


@dataclass(frozen=True, slots=True)
class Incarnation:
    """A tokenizer as it was connected: what is lost with it is not tried there again."""

    tokenizer: TokenizerClient
    num_losses: int

    @classmethod
    def of(cls, tokenizer: TokenizerClient) -> Incarnation:
        """The tokenizer as it is connected now."""
        return cls(tokenizer, tokenizer.num_losses)

    def is_now(self, tokenizer: TokenizerClient) -> bool:
        """Whether `tokenizer` is this one, still or seemingly connected as it was."""
        return tokenizer is self.tokenizer and tokenizer.num_losses == self.num_losses


class TokenizerPool:
    """Picks by the fingerprint of a tokenizer's files: ids mean the same to all that share it."""

    def __init__(self, tokenizers: Collection[TokenizerClient], *, wait_s: float) -> None:
        """`wait_s`: how long what has lost its tokenizer waits for one."""
        self.tokenizers = tokenizers
        self._wait_s = wait_s
        self._changed = asyncio.Event()

    def note_change(self) -> None:
        """Hears that a tokenizer began or ceased to serve."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def pick(
        self, fingerprint: str, *, besides: Incarnation | None = None
    ) -> TokenizerClient | None:
        """The one with the least to do among those that serve, None where there is none."""
        fitting = [
            tokenizer
            for tokenizer in self.tokenizers
            if tokenizer.is_ready
            and tokenizer.description is not None
            and tokenizer.description.fingerprint == fingerprint
            and not (besides is not None and besides.is_now(tokenizer))
        ]
        return min(fitting, key=lambda tokenizer: tokenizer.num_open, default=None)

    async def wait_for(
        self,
        fingerprint: str,
        *,
        besides: Incarnation | None = None,
        within_s: float = math.inf,
    ) -> TokenizerClient:
        """The one to pick, now or once there is one; raises UnavailableError."""
        try:
            async with asyncio.timeout(min(within_s, self._wait_s)):
                while (found := self.pick(fingerprint, besides=besides)) is None:
                    await self._changed.wait()
                return found
        except TimeoutError:
            raise no_tokenizer() from None


def no_tokenizer() -> UnavailableError:
    """The error of a request for which no tokenizer serves."""
    return UnavailableError(
        "No tokenizer serves now.", reason="NO_TOKENIZER", retry_delay_ms=RETRY_DELAY_MS
    )
