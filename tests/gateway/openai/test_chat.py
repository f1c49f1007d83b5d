"""/v1/chat/completions by raw bytes: the shapes that clients rely on."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from gateway.events import Delta, Finished, FinishReason
from octavo.errors import InternalError, ResourceExhaustedError, UnavailableError
from tests.gateway.openai.conftest import events
from tests.gateway.openai.fake_generation import MODEL, FakeGeneration, accepted, script, usage

PATH = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "Where?"}]


def body(**fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": MESSAGES, **fields}


async def test_a_whole_answer(http: httpx.AsyncClient) -> None:
    answer = await http.post(PATH, json=body(), headers={"x-request-id": "abc"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"] == "abc"
    fields = answer.json()
    assert isinstance(fields.pop("created"), int)
    assert fields == {
        "id": "chatcmpl-abc",
        "object": "chat.completion",
        "model": MODEL,
        "system_fingerprint": "fp_cdcdcdcdcdcd",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Paris.", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 7,
            "completion_tokens": 3,
            "total_tokens": 10,
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }


async def test_a_stream(http: httpx.AsyncClient) -> None:
    answer = await http.post(PATH, json=body(stream=True))
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"
    *chunks, done = events(answer.text)
    assert done == "[DONE]"
    choices = [chunk["choices"][0] for chunk in chunks]
    assert [choice["delta"] for choice in choices] == [
        {"role": "assistant", "content": ""},
        {"content": "Par"},
        {"content": "is"},
        {"content": "."},
        {},
    ]
    assert [choice["finish_reason"] for choice in choices] == [None] * 4 + ["stop"]
    same = {
        (c["id"], c["created"], c["model"], c["system_fingerprint"], c["object"]) for c in chunks
    }
    assert len(same) == 1
    assert same.pop()[4] == "chat.completion.chunk"
    assert all("usage" not in chunk for chunk in chunks)


async def test_the_usage_chunk_where_it_was_asked_for(http: httpx.AsyncClient) -> None:
    answer = await http.post(PATH, json=body(stream=True, stream_options={"include_usage": True}))
    *chunks, last, done = events(answer.text)
    assert done == "[DONE]"
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 10
    assert all(chunk["usage"] is None for chunk in chunks)


@pytest.mark.parametrize("options", [{}, None, {"include_usage": None}, {"include_usage": False}])
async def test_no_usage_chunk_otherwise(http: httpx.AsyncClient, options: Any) -> None:
    answer = await http.post(PATH, json=body(stream=True, stream_options=options))
    assert all("usage" not in chunk for chunk in events(answer.text)[:-1])


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (FinishReason.STOP, "stop"),
        (FinishReason.LENGTH, "length"),
        (FinishReason.CONTEXT_LENGTH, "length"),
        (FinishReason.TIME_LIMIT, "length"),
    ],
)
async def test_finish_reasons(
    http: httpx.AsyncClient,
    generation: FakeGeneration,
    stream: bool,
    reason: FinishReason,
    said: str,
) -> None:
    generation.answer = lambda _: script("a", reason=reason)
    answer = await http.post(PATH, json=body(stream=stream))
    last = events(answer.text)[-2] if stream else answer.json()
    assert last["choices"][0]["finish_reason"] == said


async def test_no_empty_content_and_no_line_breaks_inside(
    http: httpx.AsyncClient, generation: FakeGeneration
) -> None:
    text = 'é🙂"\\\n\r\u2028\u2029\u0085\u0000'
    generation.answer = lambda _: script("", text, "")
    answer = await http.post(PATH, json=body(stream=True))
    assert len(answer.text.splitlines()) == answer.text.count("\n")
    contents = [c["choices"][0]["delta"].get("content") for c in events(answer.text)[:-1]]
    assert contents == ["", text, None]


async def test_several_choices_interleave(
    http: httpx.AsyncClient, generation: FakeGeneration
) -> None:
    generation.answer = lambda _: [
        accepted(),
        Delta(output_index=1, text="b"),
        Delta(output_index=0, text="a"),
        Finished(output_index=1, reason=FinishReason.STOP),
        Finished(output_index=0, reason=FinishReason.LENGTH),
        usage(),
    ]
    answer = await http.post(PATH, json=body(stream=True, n=2))
    choices = [chunk["choices"][0] for chunk in events(answer.text)[:-1]]
    assert [choice["index"] for choice in choices] == [0, 1, 1, 0, 1, 0]
    whole = (await http.post(PATH, json=body(n=2))).json()["choices"]
    assert [(c["message"]["content"], c["finish_reason"]) for c in whole] == [
        ("a", "length"),
        ("b", "stop"),
    ]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_refusal_is_a_status(
    http: httpx.AsyncClient, generation: FakeGeneration, stream: bool
) -> None:
    metadata = {"field": "max_waiting", "value": "9", "limit": "8"}  # no field of the request
    refusal = ResourceExhaustedError(
        "Full.", reason="QUEUE_FULL", metadata=metadata, retry_delay_ms=1_200
    )
    generation.answer = lambda _: [refusal]
    answer = await http.post(PATH, json=body(stream=stream))
    assert answer.status_code == 429
    assert (answer.headers["retry-after"], answer.headers["retry-after-ms"]) == ("2", "1200")
    assert answer.json()["error"] == {
        "message": "Full.",
        "type": "rate_limit_error",
        "param": None,
        "code": "rate_limit_exceeded",
    }


async def test_a_failure_mid_stream_is_the_last_event(
    http: httpx.AsyncClient, generation: FakeGeneration
) -> None:
    lost = UnavailableError("The worker is gone.", reason="WORKER_LOST")
    generation.answer = lambda _: [accepted(), Delta(output_index=0, text="a"), lost]
    answer = await http.post(PATH, json=body(stream=True))
    last = events(answer.text)[-1]
    assert answer.status_code == 200
    assert last["error"]["message"] == "The worker is gone."
    assert last["error"]["code"] == "server_overloaded"
    assert "[DONE]" not in answer.text


@pytest.mark.parametrize("reason", ["DRAINING", "DRAINED"])
async def test_a_gateway_that_ends_says_so(
    http: httpx.AsyncClient, generation: FakeGeneration, reason: str
) -> None:
    ends = UnavailableError("It ends.", reason=reason, retry_delay_ms=1_500)
    generation.answer = lambda _: [ends]
    answer = await http.post(PATH, json=body())
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "server_draining"
    assert answer.headers["retry-after"] == "2"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("error", [InternalError("a secret"), ValueError("a secret")])
async def test_what_broke_inside_stays_inside(
    http: httpx.AsyncClient, generation: FakeGeneration, stream: bool, error: Exception
) -> None:
    generation.answer = lambda _: [error]
    answer = await http.post(PATH, json=body(stream=stream))
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.json()["error"]["type"] == "server_error"
    assert answer.headers["x-request-id"]
