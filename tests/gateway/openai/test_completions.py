"""/v1/completions by raw bytes."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from gateway.openai.limits import HttpLimits
from gateway.request import OutputOptions
from octavo.errors import ResourceExhaustedError, invalid_field
from tests.gateway.openai.conftest import door, events
from tests.gateway.openai.fake_generation import MODEL, FakeGeneration, accepted, script

PATH = "/v1/completions"


def body(**fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "prompt": "Paris is", **fields}


async def test_a_whole_answer(http: httpx.AsyncClient, generation: FakeGeneration) -> None:
    answer = (await http.post(PATH, json=body(), headers={"x-request-id": "abc"})).json()
    assert answer["id"] == "cmpl-abc"
    assert answer["object"] == "text_completion"
    assert answer["choices"] == [
        {"index": 0, "text": "Paris.", "logprobs": None, "finish_reason": "stop"}
    ]
    assert answer["usage"]["total_tokens"] == 10
    assert generation.requests[0].prompt == "Paris is"
    assert generation.requests[0].request_id == "abc"


async def test_a_stream_with_usage(http: httpx.AsyncClient) -> None:
    answer = await http.post(PATH, json=body(stream=True, stream_options={"include_usage": True}))
    *chunks, last, done = events(answer.text)
    assert done == "[DONE]"
    assert [(c["choices"][0]["text"], c["choices"][0]["finish_reason"]) for c in chunks] == [
        ("Par", None),
        ("is", None),
        (".", None),
        ("", "stop"),
    ]
    assert all(chunk["usage"] is None for chunk in chunks)
    assert (last["choices"], last["usage"]["completion_tokens"]) == ([], 3)
    assert len({chunk["id"] for chunk in [*chunks, last]}) == 1


async def test_token_ids(http: httpx.AsyncClient, generation: FakeGeneration) -> None:
    assert (await http.post(PATH, json=body(prompt=[1, 2, 3]))).status_code == 200
    assert (generation.requests[0].prompt, generation.requests[0].token_ids) == (None, [1, 2, 3])


@pytest.mark.parametrize("prompts", [["a", "b", "c"], [[1], [2, 3], [4]]])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_list_of_prompts(
    http: httpx.AsyncClient, generation: FakeGeneration, prompts: list[Any], stream: bool
) -> None:
    generation.answer = lambda request: script(f"for {request.prompt or request.token_ids}")
    fields = body(prompt=prompts, stream=stream, stream_options={"include_usage": True})
    answer = await http.post(PATH, json=fields, headers={"x-request-id": "abc"})
    assert [request.request_id for request in generation.requests] == ["abc-0", "abc-1", "abc-2"]
    whole = {"usage": {}, "choices": []} if stream else answer.json()
    texts = {choice["index"]: choice["text"] for choice in whole["choices"]}
    if stream:
        *chunks, last, _ = events(answer.text)
        whole["usage"] = last["usage"]
        for choice in (chunk["choices"][0] for chunk in chunks):
            texts[choice["index"]] = texts.get(choice["index"], "") + choice["text"]
    assert texts == {index: f"for {prompt}" for index, prompt in enumerate(prompts)}
    assert whole["usage"]["prompt_tokens"] == 21


async def test_one_failing_prompt_ends_all(
    http: httpx.AsyncClient, generation: FakeGeneration
) -> None:
    forever = asyncio.Event()
    refusal = ResourceExhaustedError("Full.")
    generation.answer = lambda request: (
        [refusal] if request.prompt == "b" else [accepted(), forever.wait()]
    )
    answer = await http.post(PATH, json=body(prompt=["a", "b", "c"]))
    assert answer.status_code == 429
    assert generation.num_open == 0


@pytest.mark.parametrize(
    ("prompt", "param"),
    [
        (None, "prompt"),
        (5, "prompt"),
        ([], "prompt"),
        (["a"] * 4, "prompt"),
        ([1, "a"], "prompt[1]"),
        (["a", 1], "prompt[1]"),
        ([[1], [1.5]], "prompt[1][0]"),
        ([True], "prompt[0]"),
        ({}, "prompt"),
    ],
)
async def test_what_no_prompt_is(http: httpx.AsyncClient, prompt: Any, param: str) -> None:
    answer = await http.post(PATH, json=body(prompt=prompt))
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


async def test_more_outputs_than_may_ever_be_open_are_no_matter_of_a_retry(
    http: httpx.AsyncClient, generation: FakeGeneration
) -> None:
    answer = await http.post(PATH, json=body(prompt=["a", "b", "c"], n=22))
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["param"], error["code"]) == ("prompt", "invalid_value")
    assert error["message"] == (
        "prompt is 3 prompts, which with n 22 make 66 outputs; it must be such that prompts x n is "
        "at most 64, the limit of open requests."
    )
    assert "retry-after" not in answer.headers
    assert not generation.requests
    assert (await http.post(PATH, json=body(prompt=["a", "b"], n=32))).status_code == 200


@pytest.mark.parametrize(
    ("prompt", "param"),
    [([1, 99], "prompt[1]"), ([[1, 99]], "prompt[0][1]"), ([[1, 2], [1, 99]], "prompt[1][1]")],
)
async def test_the_core_names_the_prompt_that_is_wrong(
    http: httpx.AsyncClient, generation: FakeGeneration, prompt: Any, param: str
) -> None:
    wrong = invalid_field("token_ids[1]", 99, "less")
    generation.answer = lambda request: [wrong] if 99 in (request.token_ids or ()) else script("a")
    answer = await http.post(PATH, json=body(prompt=prompt))
    assert answer.json()["error"]["param"] == param
    assert answer.json()["error"]["message"] == f"{param} is 99; it must be less."


@pytest.mark.parametrize(
    "fields", [{"suffix": "x"}, {"best_of": 2}, {"best_of": 3, "n": 2}, {"prompt_logprobs": 1}]
)
async def test_what_is_not_supported(http: httpx.AsyncClient, fields: dict[str, Any]) -> None:
    error = (await http.post(PATH, json=body(**fields))).json()["error"]
    assert (error["param"], error["code"]) == (next(iter(fields)), "unsupported_parameter")


@pytest.mark.parametrize("fields", [{"best_of": 1}, {"best_of": 2, "n": 2}, {"best_of": None}])
async def test_best_of_all_is_all(http: httpx.AsyncClient, fields: dict[str, Any]) -> None:
    assert (await http.post(PATH, json=body(**fields))).status_code == 200


async def test_a_list_of_a_million_is_refused_by_its_length(generation: FakeGeneration) -> None:
    transport = httpx.ASGITransport(door(generation, limits=HttpLimits()))
    async with httpx.AsyncClient(transport=transport, base_url="http://door") as http:
        for path, field in (
            (PATH, "prompt"),
            (PATH, "allowed_token_ids"),
            ("/v1/detokenize", "tokens"),
        ):
            answer = await http.post(path, json=body(**{field: [1] * 1_000_000}))
            assert answer.status_code == 400
            assert answer.json()["error"]["message"].startswith(f"{field} is a list of 1000000;")
    assert not generation.requests


async def test_neutral_values_ask_for_nothing(
    http: httpx.AsyncClient, generation: FakeGeneration
) -> None:
    fields = body(echo=False, suffix="", best_of=1, logprobs=None)
    assert (await http.post(PATH, json=fields)).status_code == 200
    assert generation.requests[0].output == OutputOptions()


@pytest.mark.parametrize(
    ("fields", "asked"),
    [
        ({"echo": True}, OutputOptions(echo=True)),
        ({"logprobs": 0}, OutputOptions(logprobs=True)),
        ({"logprobs": 3}, OutputOptions(logprobs=True, top_logprobs=3)),
        (
            {"logprobs": 1, "echo": True},
            OutputOptions(logprobs=True, top_logprobs=1, prompt_logprobs=True, echo=True),
        ),
    ],
)
async def test_what_is_sent_back(
    http: httpx.AsyncClient,
    generation: FakeGeneration,
    fields: dict[str, Any],
    asked: OutputOptions,
) -> None:
    assert (await http.post(PATH, json=body(max_tokens=0, **fields))).status_code == 200
    assert generation.requests[0].output == asked
    assert generation.requests[0].stopping.max_tokens == 0


async def test_the_core_names_logprobs_as_the_client_did(
    http: httpx.AsyncClient, generation: FakeGeneration
) -> None:
    generation.answer = lambda _: [invalid_field("output.top_logprobs", 21, "at most 20")]
    error = (await http.post(PATH, json=body(logprobs=21))).json()["error"]
    assert (error["param"], error["message"]) == (
        "logprobs",
        "logprobs is 21; it must be at most 20.",
    )
