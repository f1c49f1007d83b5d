"""Bodies that are wrong: always an answer, in the one shape, that names what is wrong."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.gateway.openai.checked_core import CheckedGeneration, checked_tokenization
from tests.gateway.openai.conftest import LIMITS, door
from tests.gateway.openai.fake_generation import MODEL, FakeGeneration

PATH = "/v1/chat/completions"


@pytest.fixture
async def checked() -> AsyncIterator[httpx.AsyncClient]:
    """A client of the door around a core that checks."""
    transport = httpx.ASGITransport(door(CheckedGeneration(), checked_tokenization()))
    async with httpx.AsyncClient(transport=transport, base_url="http://door") as client:
        yield client


def assert_is_error(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    assert answer.json().keys() == {"error"}
    error: dict[str, Any] = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str)
    return error


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xef\xbb\xbf{}",
        b"\xff\xfe",
        b'{"messages":"\\ud800",}',
        b'{"messages":"\xed\xa0\x80"}',
        b'{"n":1,"n":1}',
        b"[" * 19_000,
        b'{"messages":' + b'{"a":' * 3_000,
        b'{"n":' + b"9" * 10_000 + b"}",
        b"{'n':1}",
    ],
)
async def test_what_is_not_json(http: httpx.AsyncClient, content: bytes) -> None:
    answer = await http.post(PATH, content=content)
    assert assert_is_error(answer, 400)["code"] == "invalid_json"


@pytest.mark.parametrize(
    ("content", "param"),
    [
        (b'{"messages":"\\ud800"}', "messages"),
        (b'{"n":1,"messages":[{"content":"a"},{"content":"b\\ud800"}]}', "messages[1].content"),
    ],
)
async def test_a_lone_surrogate_names_its_field(
    http: httpx.AsyncClient, content: bytes, param: str
) -> None:
    error = assert_is_error(await http.post(PATH, content=content), 400)
    assert (error["code"], error["param"]) == ("invalid_json", param)
    assert error["message"].startswith(f"{param} holds a lone surrogate")


@pytest.mark.parametrize("type_", ["application/json; charset=utf-8", "text/plain", ""])
async def test_the_content_type_does_not_matter(http: httpx.AsyncClient, type_: str) -> None:
    content = json.dumps({"messages": [{"role": "user", "content": "a"}]})
    headers = {"content-type": type_, "accept": "image/png"} if type_ else {}
    assert (await http.post(PATH, content=content, headers=headers)).status_code == 200


async def test_a_body_over_the_limit(http: httpx.AsyncClient, generation: FakeGeneration) -> None:
    content = json.dumps({"messages": [], "user": "x" * LIMITS.max_body_bytes})
    error = assert_is_error(await http.post(PATH, content=content), 413)
    assert "20000 bytes" in error["message"]
    assert not generation.requests


@pytest.mark.parametrize("length", ["20001", "9" * 5000])
async def test_a_length_over_the_limit_is_enough(http: httpx.AsyncClient, length: str) -> None:
    answer = await http.post(PATH, content=b"{}", headers={"content-length": length})
    assert_is_error(answer, 413)


@pytest.mark.parametrize("request_id", [b"x" * 129, b"a b", "é".encode(), b"a/b", b""])
async def test_a_request_id_that_no_log_should_hold(
    http: httpx.AsyncClient, request_id: bytes
) -> None:
    answer = await http.get("/health", headers={b"x-request-id": request_id})
    assert assert_is_error(answer, 400)["param"] == "x-request-id"


NUMBERS = ["temperature", "top_p", "top_k", "min_p", "frequency_penalty", "presence_penalty"]
NUMBERS += ["repetition_penalty", "seed", "n", "max_tokens", "max_completion_tokens", "min_tokens"]
NUMBERS += ["time_limit_ms", "priority", "no_repeat_ngram", "top_logprobs"]
NO_NUMBERS = ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", '"5"', "true", "[]", "{}", '""']
NO_NUMBERS += ["1" + "0" * 400]


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", NO_NUMBERS)
async def test_what_is_no_number(checked: httpx.AsyncClient, name: str, value: str) -> None:
    content = f'{{"messages":[{{"role":"user","content":"a"}}],"{name}":{value}}}'
    error = assert_is_error(await checked.post(PATH, content=content), 400)
    assert error["param"] == name
    assert error["message"].startswith(f"{name} is ")


INTEGERS = ["top_k", "seed", "n", "max_tokens", "min_tokens", "time_limit_ms", "priority"]


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize("value", ["1.5", "1e3", str(2**63), str(-(2**63) - 1), str(10**21)])
async def test_what_is_no_integer(checked: httpx.AsyncClient, name: str, value: str) -> None:
    content = f'{{"messages":[{{"role":"user","content":"a"}}],"{name}":{value}}}'
    assert assert_is_error(await checked.post(PATH, content=content), 400)["param"] == name


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("n", "a whole number from 1 to 32"),
        ("max_tokens", "a whole number from 0 to 4294967295"),
        ("max_completion_tokens", "a whole number from 0 to 4294967295"),
        ("top_logprobs", "a whole number from 0 to 20"),
        ("no_repeat_ngram", "a whole number from 0 to 64"),
        ("priority", "a whole number from -2147483648 to 2147483647"),
        ("seed", f"a whole number from {-(2**63)} to {2**63 - 1}"),
    ],
)
@pytest.mark.parametrize("value", [2**63, 10**21, -(2**63) - 1])
async def test_a_number_out_of_range_names_the_field_s_own_limit(
    checked: httpx.AsyncClient, name: str, limit: str, value: int
) -> None:
    body = {"messages": [{"role": "user", "content": "a"}], name: value}
    error = assert_is_error(await checked.post(PATH, json=body), 400)
    assert error["message"] == f"{name} is {value}; it must be {limit}."


@pytest.mark.parametrize("name", ["stop_token_ids", "allowed_token_ids", "forced_token_ids"])
@pytest.mark.parametrize("value", [2**63, -1])
async def test_an_id_out_of_range_names_the_model_s_own_limit(
    checked: httpx.AsyncClient, name: str, value: int
) -> None:
    body = {"messages": [{"role": "user", "content": "a"}], name: [1, value]}
    error = assert_is_error(await checked.post(PATH, json=body), 400)
    assert error["message"].startswith(f"{name}[1] is {value}; it must be a token id from 0 to ")


@pytest.mark.parametrize("value", [2**32, 2**63, -1])
async def test_an_id_of_a_prompt_is_too(checked: httpx.AsyncClient, value: int) -> None:
    for prompt, place in (([1, value], "prompt[1]"), ([[1], [2, value]], "prompt[1][1]")):
        error = assert_is_error(await checked.post("/v1/completions", json={"prompt": prompt}), 400)
        assert error["message"].startswith(f"{place} is {value}; it must be a token id from 0 to ")
    error = assert_is_error(await checked.post("/v1/detokenize", json={"tokens": [value]}), 400)
    assert error["message"].startswith(f"tokens[0] is {value}; it must be a token id from 0 to ")


@pytest.mark.parametrize(
    ("bias", "problem"),
    [
        ({"5": "a"}, 'logit_bias[5] is "a"; it must be a valid number'),
        ({"5": 101}, "logit_bias[5] is 101.0; it must be a number from -100 to 100"),
        ({"a": 1}, "logit_bias[a] is 1.0; it must be a number whose key is a token id"),
        ({str(2**32): 1}, f"logit_bias[{2**32}] is 1.0; it must be a number whose key is a token"),
    ],
)
async def test_a_bias_is_named_by_its_key(
    checked: httpx.AsyncClient, bias: dict[str, Any], problem: str
) -> None:
    body = {"messages": [{"role": "user", "content": "a"}], "logit_bias": bias}
    error = assert_is_error(await checked.post(PATH, json=body), 400)
    assert error["message"].startswith(problem)
    assert error["param"] == f"logit_bias[{next(iter(bias))}]"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
FIELDS = [*NUMBERS, "messages", "stop", "stop_token_ids", "logit_bias", "stream", "stream_options"]
FIELDS += ["model", "tools", "response_format", "chat_template_kwargs", "unheard_of", "logprobs"]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(fields=st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=3))
async def test_any_fields_get_an_answer_or_a_named_refusal(fields: dict[str, Any]) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "a"}], **fields}
    transport = httpx.ASGITransport(door(CheckedGeneration()))
    async with httpx.AsyncClient(transport=transport, base_url="http://door") as http:
        answer = await http.post(PATH, content=json.dumps(body))
    if answer.status_code == 200:
        return
    assert answer.status_code in (400, 404)
    param = assert_is_error(answer, answer.status_code)["param"]
    assert param is not None
    assert any(param.startswith(name) for name in fields)
