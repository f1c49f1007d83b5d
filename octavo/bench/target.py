"""The product under load, and what every request asks of it."""

from __future__ import annotations

from dataclasses import dataclass

import grpc.aio

from octavo.v1 import generation_pb2, generation_pb2_grpc


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """Addresses, and what all requests share. `http` None: it has no HTTP door."""

    grpc: str  # host:port
    http: str | None = None  # http://host:port
    temperature: float = 0.0
    request_limit_s: float | None = 120.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelLimits:
    """What the ids and the lengths of a load must keep to."""

    vocabulary_size: int
    max_context_tokens: int


async def vocabulary_size(channel: grpc.aio.Channel) -> int:
    """How many ids the only model of the product has."""
    stub = generation_pb2_grpc.ModelServiceStub(channel)
    answer = await stub.GetModel(generation_pb2.GetModelRequest())
    return answer.model.vocabulary_size
