"""/v1/tokenize and /v1/detokenize by raw bytes."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from octavo.errors import invalid_field
from tests.gateway.openai.conftest import door
from tests.gateway.openai.fake_generation import MODEL, FakeGeneration
from tests.gateway.openai.fake_tokenization import FakeTokenization

MESSAGES = [
    {"role": "developer", "content": [{"type": "text", "text": "h"}]},
    {"role": "user", "content": "é"},
]


async def test_a_text(http: httpx.AsyncClient, tokenization: FakeTokenization) -> None:
    answer = await http.post("/v1/tokenize", json={"prompt": "hé", "add_special_tokens": False})
    assert answer.json() == {
        "count": 3,
        "max_model_len": 2048,
        "tokens": [104, 195, 169],
        "token_strs": None,
    }
    assert tokenization.calls == [
        {
            "model": None,
            "chat": None,
            "add_special_tokens": False,
            "add_generation_prompt": True,
        }
    ]


async def test_tokens_as_strings(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/tokenize", json={"prompt": "hé", "return_token_strs": True})
    assert answer.json()["token_strs"] == ["h", "\\xc3", "\\xa9"]


async def test_a_conversation(http: httpx.AsyncClient, tokenization: FakeTokenization) -> None:
    body = {"model": MODEL, "messages": MESSAGES, "add_generation_prompt": False}
    answer = await http.post("/v1/tokenize", json=body)
    assert answer.json()["tokens"] == [104, 195, 169]
    (call,) = tokenization.calls
    assert (call["model"], call["add_generation_prompt"]) == (MODEL, False)
    assert [message.role for message in call["chat"].messages] == ["system", "user"]


async def test_ids(http: httpx.AsyncClient, tokenization: FakeTokenization) -> None:
    answer = await http.post("/v1/detokenize", json={"tokens": [104, 195, 169]})
    assert answer.json() == {"prompt": "hé"}
    await http.post("/v1/detokenize", json={"tokens": [], "skip_special_tokens": True})
    assert [call["skip_special_tokens"] for call in tokenization.calls] == [False, True]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("tokenize", {}, "prompt"),
        ("tokenize", {"prompt": "a", "messages": MESSAGES}, "prompt"),
        ("tokenize", {"prompt": 5}, "prompt"),
        ("tokenize", {"messages": [{"role": 5}]}, "messages[0].role"),
        ("tokenize", {"prompt": "a", "return_token_strs": 1}, "return_token_strs"),
        ("tokenize", {"prompt": "a", "chat_template": "x"}, "chat_template"),
        ("detokenize", {}, "tokens"),
        ("detokenize", {"tokens": ["a"]}, "tokens[0]"),
    ],
)
async def test_what_is_wrong(
    http: httpx.AsyncClient, path: str, body: dict[str, Any], param: str
) -> None:
    answer = await http.post(f"/v1/{path}", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


@pytest.mark.parametrize(
    ("field", "path", "body", "param"),
    [
        ("text", "tokenize", {"prompt": "a"}, "prompt"),
        ("chat.messages[1].name", "tokenize", {"messages": MESSAGES}, "messages[1].name"),
        ("token_ids[0]", "detokenize", {"tokens": [1]}, "tokens[0]"),
    ],
)
async def test_the_core_names_fields_as_the_client_did(
    field: str, path: str, body: dict[str, Any], param: str
) -> None:
    tokenization = FakeTokenization()
    tokenization.error = invalid_field(field, 9, "less")
    transport = httpx.ASGITransport(door(FakeGeneration(), tokenization))
    async with httpx.AsyncClient(transport=transport, base_url="http://door") as http:
        error = (await http.post(f"/v1/{path}", json=body)).json()["error"]
    assert (error["param"], error["message"]) == (param, f"{param} is 9; it must be less.")
