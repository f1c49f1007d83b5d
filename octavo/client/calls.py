"""The calls with one answer: what each sends, and what its answer means. Both clients make them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from octavo.client.generation_parameters import GenerationParameters, Message
from octavo.client.generation_request import (
    detokenize_request,
    generate_request,
    tokenize_request,
)
from octavo.client.generation_types import Generation
from octavo.client.generation_wire import generation_from_pb, model_from_pb, tokenization_from_pb
from octavo.client.model_types import Model, Tokenization
from octavo.v1 import generation_pb2 as pb
from octavo.v1.generation_pb2_grpc import GenerationServiceStub, ModelServiceStub

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class UnaryCall(Generic[T]):
    """One call: the service's stub, its method, the request, and how the answer is read."""

    service: type
    method: str
    request: Any
    read: Callable[[Any], T]


def generate_call(
    prompt: str | None,
    messages: Sequence[Message] | None,
    token_ids: Sequence[int] | None,
    parameters: GenerationParameters,
) -> UnaryCall[Generation]:
    """Generates everything and answers once."""
    return UnaryCall(
        service=GenerationServiceStub,
        method="Generate",
        request=generate_request(prompt, messages, token_ids, parameters),
        read=generation_from_pb,
    )


def tokenize_call(
    text: str | None,
    messages: Sequence[Message] | None,
    *,
    template_arguments: Mapping[str, Any] | None,
    add_special_tokens: bool | None,
    token_bytes: bool | None,
    model: str | None,
) -> UnaryCall[Tokenization]:
    """Turns text, or a conversation, into token ids."""
    return UnaryCall(
        service=GenerationServiceStub,
        method="Tokenize",
        request=tokenize_request(
            text,
            messages,
            template_arguments=template_arguments,
            add_special_tokens=add_special_tokens,
            token_bytes=token_bytes,
            model=model,
        ),
        read=tokenization_from_pb,
    )


def detokenize_call(
    token_ids: Sequence[int], *, skip_special_tokens: bool | None, model: str | None
) -> UnaryCall[str]:
    """Turns token ids into text."""
    return UnaryCall(
        service=GenerationServiceStub,
        method="Detokenize",
        request=detokenize_request(token_ids, skip_special_tokens=skip_special_tokens, model=model),
        read=lambda answer: str(answer.text),
    )


def models_call() -> UnaryCall[Sequence[Model]]:
    """Lists the models that the server serves."""
    return UnaryCall(
        service=ModelServiceStub,
        method="ListModels",
        request=pb.ListModelsRequest(),
        read=lambda answer: tuple(model_from_pb(model) for model in answer.models),
    )


def model_call(name: str | None) -> UnaryCall[Model]:
    """Describes one model."""
    return UnaryCall(
        service=ModelServiceStub,
        method="GetModel",
        request=pb.GetModelRequest(model=name),
        read=lambda answer: model_from_pb(answer.model),
    )
