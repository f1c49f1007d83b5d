"""Web pages of other origins: refused unless they are named."""

from __future__ import annotations

import httpx
import pytest

from tests.gateway.openai.conftest import door
from tests.gateway.openai.fake_generation import FakeGeneration
from tests.gateway.openai.test_bad_bodies import assert_is_error

ORIGIN = "https://chat.example.com"
PREFLIGHT = {
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type",
}


def client(*origins: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(door(FakeGeneration(), cors_origins=origins))
    return httpx.AsyncClient(transport=transport, base_url="http://door")


async def test_off_by_default(http: httpx.AsyncClient) -> None:
    answer = await http.get("/health", headers={"origin": ORIGIN})
    assert "access-control-allow-origin" not in answer.headers
    headers = {"origin": ORIGIN, **PREFLIGHT}
    assert_is_error(await http.options("/v1/completions", headers=headers), 405)


@pytest.mark.parametrize("allowed", [ORIGIN, "*"])
async def test_an_origin_that_is_named(allowed: str) -> None:
    async with client("https://other.example.com", allowed) as http:
        headers = {"origin": ORIGIN, **PREFLIGHT}
        answer = await http.options("/v1/chat/completions", headers=headers)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == allowed
        assert "POST" in answer.headers["access-control-allow-methods"]
        assert "authorization" in answer.headers["access-control-allow-headers"]
        assert answer.headers["x-request-id"]
        answer = await http.post("/v1/completions", json={}, headers={"origin": ORIGIN})
        assert_is_error(answer, 400)
        assert answer.headers["access-control-allow-origin"] == allowed
        assert "x-request-id" in answer.headers["access-control-expose-headers"]
        assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("request_id", ["a b", "x" * 129])
async def test_a_page_can_read_that_its_request_id_is_refused(request_id: str) -> None:
    async with client(ORIGIN) as http:
        headers = {"origin": ORIGIN, "x-request-id": request_id}
        answer = await http.get("/health", headers=headers)
        assert assert_is_error(answer, 400)["param"] == "x-request-id"
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert answer.headers["x-request-id"] != request_id


async def test_an_origin_that_is_not_named() -> None:
    async with client(ORIGIN) as http:
        headers = {"origin": f"{ORIGIN}.evil.example.com", **PREFLIGHT}
        answer = await http.options("/v1/completions", headers=headers)
        assert assert_is_error(answer, 400)["code"] == "cors_refused"
        assert "access-control-allow-origin" not in answer.headers
