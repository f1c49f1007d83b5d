"""What a chat body becomes, and what is refused by the name that the client used."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from gateway.openai.unknown_fields import UnknownFields
from gateway.request import OutputOptions, Sampling, Stopping
from octavo.errors import InWords, OctavoError, invalid_field, unsupported_field
from tests.gateway.openai.checked_core import CheckedGeneration
from tests.gateway.openai.conftest import door
from tests.gateway.openai.fake_generation import MODEL, FakeGeneration

PATH = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "Where?"}]


async def post(http: httpx.AsyncClient, **fields: Any) -> httpx.Response:
    return await http.post(PATH, json={"model": MODEL, "messages": MESSAGES, **fields})


async def test_every_field_arrives(http: httpx.AsyncClient, generation: FakeGeneration) -> None:
    answer = await post(
        http,
        temperature=0,
        top_p=0.5,
        top_k=-1,
        seed=-5,
        n=1,
        max_tokens=9,
        max_completion_tokens=7,
        stop=["a", "b"],
        stop_token_ids=[3],
        ignore_eos=False,
        include_stop_str_in_output=True,
        time_limit_ms=100,
        min_tokens=2,
        frequency_penalty=0.5,
        logit_bias={"5": -1},
        no_repeat_ngram=3,
        forced_token_ids=[8],
        stop_token_sequences=[[1, 2], [3]],
        logprobs=True,
        top_logprobs=2,
        priority=-1,
        cache_salt="s",
        chat_template_kwargs={"x": [1]},
    )
    assert answer.status_code == 200, answer.text
    request = generation.requests[0]
    assert request.model == MODEL
    assert request.sampling == Sampling(
        temperature=0,
        top_p=0.5,
        top_k=0,
        seed=-5,
        n=1,
        frequency_penalty=0.5,
        logit_bias={5: -1.0},
        no_repeat_ngram=3,
        bad_words=[],
        allowed_token_ids=[],
        forced_token_ids=[8],
    )
    assert request.stopping == Stopping(
        max_tokens=7,
        min_tokens=2,
        stop=["a", "b"],
        stop_token_ids=[3],
        ignore_eos=False,
        stop_token_sequences=[[1, 2], [3]],
        include_stop=True,
        time_limit_ms=100,
    )
    assert request.output == OutputOptions(logprobs=True, top_logprobs=2)
    assert request.chat is not None
    assert request.chat.template_arguments == {"x": [1]}
    assert (request.priority, request.cache_salt) == (-1, "s")


@pytest.mark.parametrize("stream", [None, False, True])
async def test_the_core_knows_whether_an_answer_is_streamed(
    http: httpx.AsyncClient, generation: FakeGeneration, stream: bool | None
) -> None:
    await post(http, stream=stream)
    await http.post("/v1/completions", json={"prompt": ["a", "b"], "stream": stream})
    assert [request.sent_at_once for request in generation.requests] == [not stream] * 3


NEUTRAL = {
    "frequency_penalty": 0,
    "presence_penalty": 0.0,
    "repetition_penalty": 1.0,
    "min_p": 0,
    "min_tokens": 0,
    "logit_bias": {},
    "logprobs": False,
    "top_logprobs": 0,
    "tools": [],
    "tool_choice": "none",
    "parallel_tool_calls": True,
    "response_format": {"type": "text"},
    "modalities": ["text"],
    "stop": "",
}


@pytest.mark.parametrize("null", [True, False])
async def test_neutral_values_and_nulls_are_absent(
    http: httpx.AsyncClient, generation: FakeGeneration, null: bool
) -> None:
    fields = {name: None if null else value for name, value in NEUTRAL.items()}
    assert (await post(http, **fields)).status_code == 200
    assert (await post(http)).status_code == 200
    with_neutral, without = generation.requests
    assert with_neutral.sampling == without.sampling
    assert with_neutral.stopping == without.stopping
    assert with_neutral.output == without.output


async def test_every_optional_field_may_be_null(http: httpx.AsyncClient) -> None:
    names = ["stream", "stream_options", "temperature", "top_p", "seed", "n", "max_tokens", "stop"]
    names += ["max_completion_tokens", "user", "metadata", "top_k", "stop_token_ids", "priority"]
    assert (await post(http, **dict.fromkeys(names), messages=MESSAGES)).status_code == 200


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("echo", True),
        ("prompt_logprobs", 1),
        ("tools", [{"type": "function"}]),
        ("tool_choice", "required"),
        ("response_format", {"type": "json_object"}),
        ("functions", [{}]),
        ("audio", {}),
        ("guided_json", {}),
    ],
)
async def test_what_is_not_supported(http: httpx.AsyncClient, name: str, value: Any) -> None:
    answer = await post(http, **{name: value})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", name)
    assert error["code"] == "unsupported_parameter"


@pytest.mark.parametrize(
    ("error", "param", "message"),
    [
        (unsupported_field("sampling.min_p"), "min_p", "min_p is not supported"),
        (unsupported_field("output.logprobs"), "logprobs", "logprobs is not supported"),
        (invalid_field("output.top_logprobs", 3, "0"), "top_logprobs", "top_logprobs is 3; it"),
        (invalid_field("sampling.temperature", -1, "from 0"), "temperature", "temperature is -1;"),
        (
            invalid_field("stopping.max_tokens", 0, "1 or more"),
            "max_completion_tokens",
            "max_completion_tokens is 0; it must be 1 or more.",
        ),
        (invalid_field("chat", InWords("9 tokens"), "less"), "messages", "messages is 9 tokens;"),
        (
            invalid_field("chat.messages[0].content", None, "text"),
            "messages[0].content",
            "messages[0].content is absent;",
        ),
        (invalid_field("token_ids[3]", 9, "less"), "prompt[3]", "prompt[3] is 9;"),
        (
            invalid_field("stopping.include_stop", 9, "less"),
            "include_stop_str_in_output",
            "include_stop_str_in_output is 9",
        ),
    ],
)
async def test_the_core_names_fields_as_the_client_did(
    http: httpx.AsyncClient,
    generation: FakeGeneration,
    error: OctavoError,
    param: str,
    message: str,
) -> None:
    generation.answer = lambda _: [error]
    answer = await post(http, max_completion_tokens=5)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert answer.json()["error"]["message"].startswith(message)


async def test_unknown_fields_are_ignored_with_one_warning_for_each(
    http: httpx.AsyncClient,
) -> None:
    with capture_logs() as logs:
        for _ in range(3):
            answer = await post(http, user="u", metadata={}, store=True, service_tier="auto", x=5)
            assert answer.status_code == 200
        await http.post("/v1/completions", json={"prompt": "a", "user": "u", "y": 1})
    warnings = [line for line in logs if line["log_level"] == "warning"]
    assert [line["fields"] for line in warnings] == [
        ["metadata", "service_tier", "store", "user", "x"],
        ["y"],
    ]


def test_unknown_names_fill_no_log() -> None:
    unknown = UnknownFields()
    with capture_logs() as logs:
        for start in range(0, 3_000, 100):
            unknown.warn_of(f"{index:0100}" for index in range(start, start + 100))
    assert sum(len(line["fields"]) for line in logs) == 1
    with capture_logs() as logs:
        for index in range(3_000):
            unknown.warn_of([f"name-{index}"])
    assert len(logs) == 999


@pytest.mark.parametrize(
    ("content", "joined"),
    [
        ("", ""),
        ([], ""),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": " b"}], "a b"),
        (None, None),
    ],
)
async def test_content(
    http: httpx.AsyncClient, generation: FakeGeneration, content: Any, joined: str | None
) -> None:
    messages = [{"role": "developer", "content": content, "name": None, "refusal": None}]
    assert (await post(http, messages=messages)).status_code == 200
    chat = generation.requests[0].chat
    assert chat is not None
    assert (chat.messages[0].role, chat.messages[0].content) == ("system", joined)


async def test_an_image_is_refused_by_its_place(http: httpx.AsyncClient) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}
    parts = [{"type": "text", "text": "a"}, image]
    answer = await post(http, messages=[{"role": "user", "content": parts}])
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "messages[0].content[1]"


@pytest.mark.parametrize(
    ("stop", "texts"),
    [
        (None, []),
        ("", []),
        ([], []),
        ([""], []),
        ("a", ["a"]),
        (["a", "b", "c", "d"], ["a", "b", "c", "d"]),
        (["a", "", "b"], ["a", "b"]),
    ],
)
async def test_stop(
    http: httpx.AsyncClient, generation: FakeGeneration, stop: Any, texts: list[str]
) -> None:
    assert (await post(http, stop=stop)).status_code == 200
    assert generation.requests[0].stopping.stop == texts


@pytest.mark.parametrize("role", ["system", "user", "assistant", "tool", "function"])
async def test_roles(http: httpx.AsyncClient, generation: FakeGeneration, role: str) -> None:
    assert (await post(http, messages=[{"role": role, "content": "a"}])).status_code == 200
    chat = generation.requests[0].chat
    assert chat is not None and chat.messages[0].role == role


@pytest.mark.parametrize("role", ["critic", "User", "", "system "])
async def test_a_role_that_openai_does_not_have_is_named(
    http: httpx.AsyncClient, role: str
) -> None:
    messages = [{"role": "user", "content": "a"}, {"role": role, "content": "b"}]
    for path in ("/v1/chat/completions", "/v1/tokenize"):
        answer = await http.post(path, json={"messages": messages})
        error = answer.json()["error"]
        assert (answer.status_code, error["param"]) == (400, "messages[1].role")
        assert error["message"].startswith(f"messages[1].role is \"{role}\"; it must be 'system', ")


async def test_more_than_four_stops(http: httpx.AsyncClient) -> None:
    error = (await post(http, stop=["a"] * 5)).json()["error"]
    assert error["message"] == "stop is a list of 5; it must be a list of at most 4."


@pytest.mark.parametrize("key", ["a", "-1", "1.0", "", "٣", "05", "9" * 5000])
async def test_logit_bias_is_keyed_by_ids(http: httpx.AsyncClient, key: str) -> None:
    answer = await post(http, logit_bias={key: 1})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith("logit_bias[")


async def test_an_unknown_model(http: httpx.AsyncClient) -> None:
    answer = await post(http, model="other")
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert "'other'" in error["message"]


async def test_messages_are_required(http: httpx.AsyncClient) -> None:
    answer = await http.post(PATH, json={"model": MODEL})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "messages is required."


async def test_the_older_name_is_checked_though_the_newer_wins(
    http: httpx.AsyncClient, generation: FakeGeneration
) -> None:
    answer = await post(http, max_completion_tokens=5, max_tokens=-1)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "max_tokens"
    assert not generation.requests


CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "assistant", "content": None, "tool_calls": [CALL]}, "messages.tool_calls"),
        ({"role": "tool", "content": "4", "tool_call_id": "1"}, "messages.tool_call_id"),
        ({"role": "assistant", "content": None}, "messages[1].content"),
        ({"role": "assistant", "content": None, "tool_calls": []}, "messages[1].content"),
    ],
)
async def test_what_needs_tools_is_refused_by_its_own_name(
    message: dict[str, Any], param: str
) -> None:
    transport = httpx.ASGITransport(door(CheckedGeneration()))
    async with httpx.AsyncClient(transport=transport, base_url="http://door") as http:
        answer = await post(http, messages=[*MESSAGES, message])
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
