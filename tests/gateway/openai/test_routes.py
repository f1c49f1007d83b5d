"""Models, health, and what no route answers."""

from __future__ import annotations

import httpx
import pytest

from tests.gateway.openai.fake_generation import MODEL, FakeGeneration
from tests.gateway.openai.test_bad_bodies import assert_is_error

MODEL_FIELDS = {
    "id": MODEL,
    "object": "model",
    "created": 1_700_000_000,
    "owned_by": "octavo",
    "max_model_len": 2048,
    "vocabulary_size": 49152,
}


async def test_models(http: httpx.AsyncClient) -> None:
    answer = await http.get("/v1/models")
    assert answer.json() == {"object": "list", "data": [MODEL_FIELDS]}


@pytest.mark.parametrize("path", [MODEL, MODEL.replace("/", "%2F")])
async def test_a_model_whose_id_has_a_slash(http: httpx.AsyncClient, path: str) -> None:
    assert (await http.get(f"/v1/models/{path}")).json() == MODEL_FIELDS


@pytest.mark.parametrize("path", ["other", "%ED%A0%80", "%FF"])
async def test_a_model_that_is_not_there(http: httpx.AsyncClient, path: str) -> None:
    error = assert_is_error(await http.get(f"/v1/models/{path}"), 404)
    assert error["code"] == "model_not_found"


async def test_health(http: httpx.AsyncClient, generation: FakeGeneration) -> None:
    assert (await http.get("/health")).json() == {"status": "ok"}
    generation.ready = False
    assert_is_error(await http.get("/health"), 503)


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/chat/completions/", "/v1/models/", "/docs/", "/tokenize"]
)
async def test_no_route(http: httpx.AsyncClient, path: str) -> None:
    assert_is_error(await http.get(path), 404)


async def test_no_method(http: httpx.AsyncClient) -> None:
    answer = await http.get("/v1/chat/completions")
    assert_is_error(answer, 405)
    assert answer.headers["allow"] == "POST"


async def test_request_ids(http: httpx.AsyncClient) -> None:
    given = await http.get("/health", headers={"x-request-id": "A.b_c:d-9"})
    assert given.headers["x-request-id"] == "A.b_c:d-9"
    drawn = {(await http.get("/health")).headers["x-request-id"] for _ in range(3)}
    assert len(drawn) == 3
