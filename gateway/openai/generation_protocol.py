"""What this door needs from the gateway's core; its tests bring a fake."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from gateway.events import Event
from gateway.model_card import ModelCard
from gateway.request import GenerationRequest


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
