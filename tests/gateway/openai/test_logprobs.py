"""Log probabilities by raw bytes: whole and streamed, with text held back, with an echo before."""

from __future__ import annotations

import math
from typing import Any

import httpx
import pytest

from gateway.events import Accepted, Delta, Finished, FinishReason, Token, TopToken
from gateway.openai.logprobs import CompletionLogprobs, chat_logprobs
from tests.gateway.openai.conftest import events
from tests.gateway.openai.fake_generation import (
    MODEL,
    FakeGeneration,
    Step,
    scored_script,
    usage,
)

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "a"}]}
LLAMA = [{"token": "\\xf0\\x9f", "logprob": -9999.0, "bytes": [0xF0, 0x9F], "top_logprobs": []}]
LLAMA += [{"token": "\\xa6\\x99", "logprob": -1.0, "bytes": [0xA6, 0x99], "top_logprobs": []}]


async def chunks(http: httpx.AsyncClient, path: str, **body: Any) -> list[dict[str, Any]]:
    answer = await http.post(path, json={**body, "stream": True})
    assert answer.status_code == 200, answer.text
    return [chunk["choices"][0] for chunk in events(answer.text)[:-1]]


async def test_true_alone_gives_empty_top_lists(
    http: httpx.AsyncClient, generation: FakeGeneration
) -> None:
    token = Token(id=1, bytes=b"a", logprob=-0.25)
    generation.answer = lambda _: [
        Accepted(
            request_id="r", model=MODEL, num_prompt_tokens=1, num_cached_prompt_tokens=0, seed=1
        ),
        Delta(output_index=0, text="a", tokens=[token]),
        Finished(output_index=0, reason=FinishReason.STOP),
        usage(1),
    ]
    answer = await http.post("/v1/chat/completions", json={**CHAT, "logprobs": True})
    assert answer.json()["choices"][0]["logprobs"] == {
        "content": [{"token": "a", "logprob": -0.25, "bytes": [97], "top_logprobs": []}],
        "refusal": None,
    }


async def test_without_being_asked_for_there_are_none(
    http: httpx.AsyncClient, generation: FakeGeneration
) -> None:
    generation.answer = lambda _: scored_script()
    for choice in await chunks(http, "/v1/chat/completions", **CHAT, logprobs=False):
        assert choice["logprobs"] is None
    for choice in await chunks(http, "/v1/completions", prompt="x"):
        assert choice["logprobs"] is None


async def test_a_chat_that_streams_sends_tokens_with_their_text(
    http: httpx.AsyncClient, generation: FakeGeneration
) -> None:
    generation.answer = lambda _: scored_script()
    opening, par, llama, end = await chunks(http, "/v1/chat/completions", **CHAT, logprobs=True)
    assert opening["logprobs"] is None and end["logprobs"] is None
    assert (par["delta"], llama["delta"]) == ({"content": "Par"}, {"content": "🦙"})
    assert [token["token"] for token in par["logprobs"]["content"]] == ["Par"]
    assert llama["logprobs"]["content"] == LLAMA


async def test_tokens_that_make_no_text_come_with_the_end(
    http: httpx.AsyncClient, generation: FakeGeneration
) -> None:
    silent = Token(id=9, bytes=b"<|x|>", logprob=-3.0)
    steps: list[Step] = scored_script()
    steps.insert(-2, Delta(output_index=0, text="", tokens=[silent]))
    generation.answer = lambda _: steps
    *_, end = await chunks(http, "/v1/chat/completions", **CHAT, logprobs=True)
    assert (end["delta"], end["finish_reason"]) == ({}, "length")
    assert [token["token"] for token in end["logprobs"]["content"]] == ["<|x|>"]
    *_, last = await chunks(http, "/v1/completions", prompt="x", logprobs=0)
    assert (last["text"], last["logprobs"]["tokens"]) == ("", ["<|x|>"])
    assert last["logprobs"]["text_offset"] == [4]


async def test_a_completion_that_streams_counts_offsets_on(
    http: httpx.AsyncClient, generation: FakeGeneration
) -> None:
    generation.answer = lambda _: scored_script()
    par, llama, end = await chunks(http, "/v1/completions", prompt="x", logprobs=2)
    assert par["logprobs"] == {
        "tokens": ["Par"],
        "token_logprobs": [-0.5],
        "top_logprobs": [{"Par": -0.5, "Lon": -2.0}],
        "text_offset": [0],
    }
    assert llama["logprobs"]["text_offset"] == [3, 3]
    assert llama["logprobs"]["top_logprobs"] == [
        {"bytes:\\xf0\\x9f": -9999.0},
        {"bytes:\\xa6\\x99": -1.0},
    ]
    assert end["logprobs"]["tokens"] == []


def echoed(text: str) -> list[Step]:
    """An echo of "Hé ", whose tokens begin with one that is no text, before each of two outputs."""
    prompt = [
        Token(id=0, bytes=b"<s>"),
        Token(id=1, bytes=b" H", logprob=-1.0),
        Token(id=2, bytes=b"\xc3", logprob=-2.0),
        Token(id=3, bytes=b"\xa9 ", logprob=-3.0, top=[TopToken(id=4, bytes=b"x", logprob=-0.5)]),
    ]
    accepted = Accepted(
        request_id="r",
        model=MODEL,
        num_prompt_tokens=4,
        num_cached_prompt_tokens=0,
        seed=1,
        prompt_tokens=prompt,
        num_echoed_characters=3,
    )
    echo: list[Step] = [Delta(output_index=index, text="Hé ") for index in range(2)]
    tokens = [Token(id=ord(c), bytes=c.encode(), logprob=-0.5) for c in text]
    said = [
        Delta(output_index=i, text=t.bytes.decode(), tokens=[t]) for t in tokens for i in (1, 0)
    ]
    ends = [Finished(output_index=index, reason=FinishReason.LENGTH) for index in range(2)]
    return [accepted, *echo, *said, *ends, usage(2 * len(text))]


@pytest.mark.parametrize("text", ["", "yo"])
async def test_an_echo_brings_the_tokens_of_the_prompt(
    http: httpx.AsyncClient, generation: FakeGeneration, text: str
) -> None:
    generation.answer = lambda _: echoed(text)
    body = {"prompt": "Hé ", "echo": True, "logprobs": 1, "n": 2, "max_tokens": len(text)}
    whole = (await http.post("/v1/completions", json=body)).json()["choices"]
    joined: list[dict[str, Any]] = [{"text": "", "logprobs": {}} for _ in range(2)]
    for chunk in await chunks(http, "/v1/completions", **body):
        choice = joined[chunk["index"]]
        choice["text"] += chunk["text"]
        for name, part in chunk["logprobs"].items():
            choice["logprobs"][name] = choice["logprobs"].get(name, []) + part
    for choice in (*whole, *joined):
        assert choice["text"] == f"Hé {text}"
        logprobs = choice["logprobs"]
        assert logprobs["tokens"] == ["<s>", " H", "bytes:\\xc3", "bytes:\\xa9\\x20", *text]
        assert logprobs["token_logprobs"] == [None, -1.0, -2.0, -3.0, *[-0.5] * len(text)]
        assert logprobs["top_logprobs"][0] is None
        assert logprobs["top_logprobs"][3] == {"x": -0.5, "bytes:\\xa9\\x20": -3.0}
        assert logprobs["text_offset"] == [0, 0, 1, 1, *range(3, 3 + len(text))]


def test_there_is_no_infinity_and_no_nan() -> None:
    tokens = [Token(id=1, bytes=b"a", logprob=value) for value in (-math.inf, math.nan, -1e30)]
    assert [item["logprob"] for item in chat_logprobs(tokens)["content"]] == [-9999.0] * 3
    fields = CompletionLogprobs([], 0).fields(tokens)
    assert fields["token_logprobs"] == [-9999.0] * 3


def test_a_token_that_is_not_among_the_likeliest_is_added() -> None:
    top = [TopToken(id=2, bytes=b"b", logprob=-0.1)]
    token = Token(id=1, bytes=b"a", logprob=-9.0, top=top)
    assert CompletionLogprobs([], 0).fields([token])["top_logprobs"] == [{"b": -0.1, "a": -9.0}]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_an_answer_that_is_too_large_is_refused_and_may_be_streamed(
    http: httpx.AsyncClient, generation: FakeGeneration, path: str
) -> None:
    top = (TopToken(id=2, bytes=b"b", logprob=-0.1),) * 2**18
    token = Token(id=1, bytes=b"a", logprob=-9.0, top=top)
    deltas = [Delta(output_index=0, text="a", tokens=[token])] * 3
    script: list[Step] = scored_script()
    generation.answer = lambda _: [script[0], *deltas, *script[-2:]]
    answer = await http.post(path, json={**CHAT, "prompt": "a"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "answer_too_large")
    assert generation.num_open == 0
    assert len(await chunks(http, path, **CHAT, prompt="a")) >= 3
