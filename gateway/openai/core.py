"""What this door needs from the gateway's core; its tests bring fakes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from gateway.events import Event
from gateway.model_card import ModelCard
from gateway.request import Chat, GenerationRequest
from gateway.tokenization import TokenizedText


class Generation(Protocol):
    """The life of requests; `gateway.generation.Generation` is the real one."""

    def generate(self, request: GenerationRequest, /) -> AsyncGenerator[Event, None]:
        """The events of one generation; closing the generator ends it everywhere."""
        ...

    def list_models(self) -> Sequence[ModelCard]:
        """All models."""
        ...

    def get_model(self, name: str | None, /) -> ModelCard:
        """One model, or the only one; raises NotFoundError or UnavailableError."""
        ...

    def is_ready(self) -> bool:
        """Whether a request can be served now."""
        ...


class Tokenization(Protocol):
    """Text to ids and back; `gateway.tokenization.Tokenization` is the real one."""

    async def tokenize(
        self,
        *,
        model: str | None = None,
        text: str | None = None,
        chat: Chat | None = None,
        add_special_tokens: bool | None = None,
        add_generation_prompt: bool = True,
        token_bytes: bool = False,
    ) -> TokenizedText:
        """The ids of a text or of a conversation."""
        ...

    async def detokenize(
        self,
        token_ids: Sequence[int],
        *,
        model: str | None = None,
        skip_special_tokens: bool | None = None,
    ) -> str:
        """The text of ids."""
        ...
