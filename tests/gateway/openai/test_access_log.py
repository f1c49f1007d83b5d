"""The lines of requests over HTTP: one each, with route, id and outcome; none for probes."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

import httpx
import pytest
import structlog

from octavo.errors import ResourceExhaustedError
from tests.gateway.openai.conftest import door
from tests.gateway.openai.fake_generation import FakeGeneration, accepted

Lines = list[MutableMapping[str, Any]]
PROMPT = {"prompt": "hi"}


@pytest.fixture
def lines() -> Iterator[Lines]:
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as captured:
        yield captured


async def test_an_answer_is_a_line_with_its_route_and_id(
    http: httpx.AsyncClient, lines: Lines
) -> None:
    headers = {"x-request-id": "mine"}
    await http.post("/v1/completions", json=PROMPT, headers=headers)
    await http.get("/v1/models/SmolLM2/135M", headers=headers)
    assert [(line["method"], line["outcome"]) for line in lines] == [
        ("/v1/completions", "ok"),
        ("/v1/models/{id:path}", "ok"),
    ]
    assert {line["request_id"] for line in lines} == {"mine"}


async def test_probes_leave_none(http: httpx.AsyncClient, lines: Lines) -> None:
    await http.get("/health")
    assert lines == []


@pytest.mark.parametrize(
    ("method", "path", "body", "said"),
    [
        ("POST", "/v1/completions", {"prompt": 3.5}, ("INVALID_VALUE", "/v1/completions")),
        ("POST", "/v1/completions", {"model": "x"}, ("MODEL_NOT_FOUND", "/v1/completions")),
        ("GET", "/v1/completions", {}, ("METHOD_NOT_ALLOWED", "/v1/completions")),
        ("GET", "/nowhere", {}, ("NOT_FOUND", "other")),
    ],
)
async def test_a_refusal_names_its_reason(
    method: str, path: str, body: dict[str, Any], said: tuple[str, str], lines: Lines
) -> None:
    transport = httpx.ASGITransport(door(FakeGeneration()))
    async with httpx.AsyncClient(transport=transport, base_url="http://door") as http:
        await http.request(method, path, json={**PROMPT, **body})
    (line,) = lines
    assert line["outcome"] == "refused"
    assert (line["reason"], line["method"]) == said


async def test_an_id_that_does_not_fit_is_a_line_too(http: httpx.AsyncClient, lines: Lines) -> None:
    await http.get("/v1/models", headers={"x-request-id": "not one"})
    (line,) = lines
    assert (line["outcome"], line["reason"]) == ("refused", "INVALID_VALUE")


@pytest.mark.parametrize("stream", [True, False])
async def test_what_the_core_refuses_keeps_its_outcome(
    http: httpx.AsyncClient, generation: FakeGeneration, lines: Lines, stream: bool
) -> None:
    generation.answer = lambda _: [ResourceExhaustedError("full", reason="QUEUE_FULL")]
    await http.post("/v1/completions", json={**PROMPT, "stream": stream})
    assert [line["outcome"] for line in lines] == ["refused"]


async def test_a_stream_that_fails_late_is_no_success(
    http: httpx.AsyncClient, generation: FakeGeneration, lines: Lines
) -> None:
    generation.answer = lambda _: [accepted(), ZeroDivisionError()]
    await http.post("/v1/completions", json={**PROMPT, "stream": True})
    requests = [line for line in lines if line["event"] == "request"]
    assert [line["outcome"] for line in requests] == ["failed"]
