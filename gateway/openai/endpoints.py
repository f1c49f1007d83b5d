"""What each route does: read, convert, hand over to an answer."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from gateway.accepted_fields import MAX_ALLOWED_TOKEN_IDS
from gateway.events import Event
from gateway.model_card import ModelCard
from gateway.openai.answer_format import AnswerFormat, Envelope
from gateway.openai.answers import Job, StreamedAnswer, WholeAnswer
from gateway.openai.body import BodyReader
from gateway.openai.chat_body import ChatBody
from gateway.openai.chat_format import ChatFormat
from gateway.openai.completion_body import CompletionBody
from gateway.openai.completion_format import CompletionFormat
from gateway.openai.core import Generation
from gateway.openai.errors import SERVER_ERROR, ApiError
from gateway.openai.generation_body import GenerationBody
from gateway.openai.json_text import json_answer
from gateway.openai.limits import HttpLimits
from gateway.openai.request_id import request_id_of
from gateway.request import GenerationRequest

_OWNER = "octavo"


class Endpoints:
    """The functions of the routes that generate and tell of models."""

    def __init__(self, generation: Generation, bodies: BodyReader, limits: HttpLimits) -> None:
        self._generation = generation
        self._bodies = bodies
        self._limits = limits

    async def create_chat_completion(self, request: Request) -> ASGIApp:
        """POST /v1/chat/completions."""
        arrived_at = time.monotonic()
        body = await self._bodies.read(request, ChatBody)
        request_id = request_id_of(request)
        generation_request = body.to_request(request_id=request_id, arrived_at=arrived_at)
        return self._answer(body, request_id, [generation_request], ChatFormat, [body.field_names])

    async def create_completion(self, request: Request) -> ASGIApp:
        """POST /v1/completions."""
        arrived_at = time.monotonic()
        longest = self._longest_list()
        body = await self._bodies.read(request, CompletionBody, longest_list=longest)
        request_id = request_id_of(request)
        generation_requests = body.to_requests(
            request_id=request_id, arrived_at=arrived_at, limits=self._limits
        )
        return self._answer(
            body, request_id, generation_requests, CompletionFormat, body.field_names
        )

    async def list_models(self, request: Request) -> Response:
        """GET /v1/models."""
        models = [_model_fields(card) for card in self._generation.list_models()]
        return json_answer({"object": "list", "data": models})

    async def get_model(self, request: Request) -> Response:
        """GET /v1/models/{id}; ids may hold slashes."""
        return json_answer(_model_fields(self._generation.get_model(request.path_params["id"])))

    async def get_health(self, request: Request) -> Response:
        """GET /health: 200 where a request can be served now."""
        if self._generation.is_ready():
            return json_answer({"status": "ok"})
        message = (
            "No request can be served now: this gateway ends, or the services behind it do not."
        )
        raise ApiError(503, message, kind=SERVER_ERROR, code="not_ready")

    def _answer(
        self,
        body: GenerationBody,
        request_id: str,
        requests: Sequence[GenerationRequest],
        answer_format: type[AnswerFormat],
        field_names: Sequence[Mapping[str, str]],
    ) -> ASGIApp:
        envelope = _envelope(request_id, self._generation.get_model(body.model))
        job = Job(
            start=lambda: self._start(requests),
            format=answer_format(
                envelope,
                has_usage_chunk=body.wants_usage_chunk,
                has_logprobs=body.wants_logprobs,
            ),
            outputs_each=body.n or 1,
            field_names=field_names,
            limits=self._limits,
        )
        return StreamedAnswer(job) if body.stream else WholeAnswer(job)

    def _longest_list(self) -> int:
        """The most ids that a prompt of any model may have, or another list of a body."""
        contexts = [card.max_context_tokens for card in self._generation.list_models()]
        return max(MAX_ALLOWED_TOKEN_IDS, *contexts)

    def _start(self, requests: Sequence[GenerationRequest]) -> list[AsyncGenerator[Event, None]]:
        return [self._generation.generate(request) for request in requests]


def _envelope(request_id: str, card: ModelCard) -> Envelope:
    return Envelope(
        request_id=request_id,
        created=int(time.time()),
        model=card.name,
        system_fingerprint=f"fp_{card.checkpoint_fingerprint[:12]}",
    )


def _model_fields(card: ModelCard) -> dict[str, Any]:
    """`max_model_len` is not OpenAI's; clients of other servers read it. The last one is ours."""
    return {
        "id": card.name,
        "object": "model",
        "created": card.created_at_s,
        "owned_by": _OWNER,
        "max_model_len": card.max_context_tokens,
        "vocabulary_size": card.vocabulary_size,
    }
