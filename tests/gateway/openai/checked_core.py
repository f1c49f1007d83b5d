"""A fake core that checks requests as the real one does, for a model that has every token id."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, cast

from gateway.events import Event
from gateway.model_card import ModelCard
from gateway.model_checks import check_against_model
from gateway.request import GenerationRequest
from gateway.routing import Routing
from gateway.tokenization import Tokenization
from gateway.validation import check_request
from octavo.client.services.tokenizer_types import RenderedChat, TemplateMessage
from tests.gateway.openai.fake_generation import FakeGeneration, card


class CheckedGeneration(FakeGeneration):
    """Answers to any name of a model, and holds any number of tokens."""

    async def generate(self, request: GenerationRequest, /) -> AsyncGenerator[Event, None]:
        """What is right is answered as the script says."""
        model = self.get_model(request.model)
        check_request(request, max_prompt_bytes=model.capabilities.max_prompt_bytes)
        check_against_model(request, model)
        async with aclosing(super().generate(request)) as events:
            async for event in events:
                yield event

    def get_model(self, name: str | None, /) -> ModelCard:
        """One model under all names."""
        return replace(card(), vocabulary_size=2**32, max_context_tokens=2**33)


class _Tokenizer:
    """As much of a tokenizer as tokenization needs; it knows one word."""

    async def encode(self, text: str, **_: Any) -> Sequence[int]:
        return (1,)

    async def render_chat(
        self,
        messages: Sequence[TemplateMessage],
        *,
        template_arguments: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> RenderedChat:
        return RenderedChat(token_ids=(1,), text="word")

    async def decode(self, token_ids: Sequence[int], **_: Any) -> str:
        return "word"

    async def token_bytes(self, token_ids: Sequence[int], **_: Any) -> Sequence[bytes]:
        return (b"word",) * len(token_ids)


class _Routing:
    """As much of a routing as tokenization needs."""

    def model(self, name: str | None) -> ModelCard:
        return CheckedGeneration().get_model(name)

    def tokenizer(self, model: ModelCard) -> _Tokenizer:
        return _Tokenizer()


def checked_tokenization() -> Tokenization:
    """The real one, around a tokenizer that knows one word."""
    return Tokenization(routing=cast(Routing, _Routing()), max_prompt_bytes=2**20)
