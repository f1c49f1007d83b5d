"""The door around a fake core: called in process, or served on a socket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import openai
import pytest
from starlette.types import ASGIApp

from gateway.openai.app import create_app
from gateway.openai.core import Tokenization
from gateway.openai.limits import HttpLimits
from gateway.openai.server import HttpServer, serve_http
from tests.gateway.openai.fake_generation import FakeGeneration
from tests.gateway.openai.fake_tokenization import FakeTokenization

LIMITS = HttpLimits(max_body_bytes=20_000, body_time_s=0.3, max_prompts=3, max_outputs=64)


@pytest.fixture
async def generation() -> FakeGeneration:
    """The core; tests set its `answer`."""
    return FakeGeneration()


@pytest.fixture
async def tokenization() -> FakeTokenization:
    """The other half of the core."""
    return FakeTokenization()


def door(
    generation: FakeGeneration,
    tokenization: Tokenization | None = None,
    *,
    limits: HttpLimits = LIMITS,
    cors_origins: Sequence[str] = (),
    has_docs: bool = True,
) -> ASGIApp:
    """The application around fakes."""
    return create_app(
        generation,
        tokenization or FakeTokenization(),
        limits=limits,
        cors_origins=cors_origins,
        has_docs=has_docs,
    )


@pytest.fixture
async def http(
    generation: FakeGeneration, tokenization: FakeTokenization
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application, without a socket."""
    transport = httpx.ASGITransport(door(generation, tokenization))
    async with httpx.AsyncClient(transport=transport, base_url="http://door") as client:
        yield client


@pytest.fixture
async def server(generation: FakeGeneration) -> AsyncIterator[HttpServer]:
    """The application on a free port."""
    server = await serve_http(door(generation), "127.0.0.1", 0)
    yield server
    await server.close(grace_s=0)


@pytest.fixture
async def client(server: HttpServer) -> AsyncIterator[openai.AsyncOpenAI]:
    """The client that most users have."""
    url = f"http://127.0.0.1:{server.port}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield client


def events(body: str) -> list[Any]:
    """The data of each event of a stream: objects, and "[DONE]"."""
    assert body.endswith("\n\n")
    parts = [part for part in body.split("\n\n") if part and not part.startswith(":")]
    assert all(part.startswith("data: ") and "\n" not in part for part in parts)
    data = [part.removeprefix("data: ") for part in parts]
    return [part if part == "[DONE]" else json.loads(part) for part in data]
