"""A core that answers from a script, and knows what it was asked and what was closed."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

from gateway.accepted_fields import capabilities
from gateway.events import (
    Accepted,
    Delta,
    Event,
    Finished,
    FinishReason,
    Token,
    TopToken,
    Usage,
)
from gateway.model_card import GenerationDefaults, ModelCard
from gateway.request import GenerationRequest
from octavo.errors import NotFoundError, OctavoError

MODEL = "SmolLM2/135M"

Step = Event | OctavoError | Exception | Awaitable[object]


def card(name: str = MODEL) -> ModelCard:
    """A model's card."""
    return ModelCard(
        name=name,
        created_at_s=1_700_000_000,
        max_context_tokens=2048,
        vocabulary_size=49152,
        eos_token_ids=(2,),
        tokenizer_fingerprint="ab" * 32,
        checkpoint_fingerprint="cd" * 32,
        has_chat_template=True,
        defaults=GenerationDefaults(temperature=1.0, top_p=1.0, top_k=0),
        capabilities=capabilities(max_prompt_bytes=1 << 20, max_session_requests=16),
        ready=True,
    )


def accepted(num_prompt_tokens: int = 7) -> Accepted:
    """The first event."""
    return Accepted(
        request_id="r",
        model=MODEL,
        num_prompt_tokens=num_prompt_tokens,
        num_cached_prompt_tokens=4,
        seed=1,
    )


def usage(num_completion_tokens: int = 3) -> Usage:
    """The last event."""
    return Usage(
        num_prompt_tokens=7,
        num_cached_prompt_tokens=4,
        num_completion_tokens=num_completion_tokens,
        queue_ms=0.0,
        prefill_ms=1.0,
        first_token_ms=2.0,
        decode_ms=3.0,
    )


def script(*texts: str, reason: FinishReason = FinishReason.STOP) -> list[Step]:
    """A whole generation that says `texts`."""
    deltas = [Delta(output_index=0, text=text) for text in texts]
    return [accepted(), *deltas, Finished(output_index=0, reason=reason), usage(len(texts))]


def scored_script() -> list[Step]:
    """Says "Par🦙" in three tokens, two of which are halves of the llama, with scores."""
    top = (TopToken(id=1, bytes=b"Par", logprob=-0.5), TopToken(id=2, bytes=b"Lon", logprob=-2.0))
    par = Token(id=1, bytes=b"Par", logprob=-0.5, top=top)
    halves = [
        Token(id=3, bytes=b"\xf0\x9f", logprob=-math.inf),
        Token(id=4, bytes=b"\xa6\x99", logprob=-1.0),
    ]
    return [
        accepted(),
        Delta(output_index=0, text="Par", tokens=[par]),
        Delta(output_index=0, text="", tokens=halves[:1]),
        Delta(output_index=0, text="🦙", tokens=halves[1:]),
        Finished(output_index=0, reason=FinishReason.LENGTH),
        usage(3),
    ]


class FakeGeneration:
    """`answer` makes the steps for a request: events, errors to raise, things to wait for."""

    def __init__(self, answer: Callable[[GenerationRequest], Sequence[Step]] | None = None) -> None:
        self.answer = answer or (lambda _: script("Par", "is", "."))
        self.requests: list[GenerationRequest] = []
        self.num_open = 0
        self.ready = True
        self.all_closed = asyncio.Event()

    async def generate(self, request: GenerationRequest, /) -> AsyncGenerator[Event, None]:
        """Follows the script."""
        self.requests.append(request)
        self.num_open += 1
        try:
            for step in self.answer(request):
                if isinstance(step, Exception):
                    raise step
                if isinstance(step, Awaitable):
                    await step
                else:
                    yield step
        finally:
            self.num_open -= 1
            if not self.num_open:
                self.all_closed.set()

    def list_models(self) -> list[ModelCard]:
        """The one model."""
        return [card()]

    def get_model(self, name: str | None, /) -> ModelCard:
        """The one model, or the core's error."""
        if name not in (None, MODEL):
            raise NotFoundError(
                f"The model {name!r} is not served here; there is {MODEL}.",
                reason="MODEL_NOT_FOUND",
                metadata={"field": "model"},
            )
        return card()

    def is_ready(self) -> bool:
        """As the test says."""
        return self.ready
