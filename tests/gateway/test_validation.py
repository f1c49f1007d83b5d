"""Every limit of a request, and what the errors say."""

from __future__ import annotations

import math
from typing import Any

import pytest

from gateway.request import (
    Chat,
    Constraint,
    GenerationRequest,
    Message,
    OutputOptions,
    Sampling,
    Stopping,
    Tool,
    ToolCall,
    ToolChoice,
)
from gateway.validation import check_request
from octavo.errors import InvalidArgumentError

MAX_PROMPT_BYTES = 100


def request(**fields: Any) -> GenerationRequest:
    given: dict[str, Any] = {"request_id": "r", "arrived_at": 0.0, **fields}
    if not given.keys() & {"prompt", "token_ids", "chat"}:
        given["prompt"] = "x"
    return GenerationRequest(**given)


def refused_field(asked: GenerationRequest) -> str | None:
    try:
        check_request(asked, max_prompt_bytes=MAX_PROMPT_BYTES)
    except InvalidArgumentError as error:
        return error.metadata["field"]
    return None


def chat(*messages: Message, **fields: Any) -> GenerationRequest:
    return request(chat=Chat(messages=messages or (USER,), **fields))


LOGIT_BIAS = "sampling.logit_bias"
SEQUENCES = "stopping.stop_token_sequences"
USER = Message(role="user", content="x")


@pytest.mark.parametrize(
    "asked",
    [
        request(),
        request(prompt=""),
        request(token_ids=[0, 1]),
        chat(USER, template_arguments={"a": [1, {"b": None}], "c": 0.5, "d": True, "e": 2**53}),
        chat(Message(role="system", content=""), USER, Message(role="x", content="y", name="z")),
        request(sampling=Sampling(temperature=0, top_p=1, top_k=0, seed=-(2**63), n=1)),
        request(sampling=Sampling(n=32, min_p=1, no_repeat_ngram=64, repetition_penalty=10.0)),
        request(sampling=Sampling(min_p=0, frequency_penalty=-2, presence_penalty=2.0)),
        request(sampling=Sampling(logit_bias=dict.fromkeys(range(1024), -100))),
        request(sampling=Sampling(bad_words=["é" * 128] * 32, allowed_token_ids=[7] * 16_384)),
        request(sampling=Sampling(forced_token_ids=[1, 2]), stopping=Stopping(max_tokens=2)),
        request(stopping=Stopping(max_tokens=0, min_tokens=0)),
        request(stopping=Stopping(min_tokens=2**32 - 1)),
        request(stopping=Stopping(stop_token_sequences=[[1] * 32] * 16)),
        request(output=OutputOptions(logprobs=True, top_logprobs=20, prompt_logprobs=True)),
        request(output=OutputOptions(prompt_logprobs=True, top_logprobs=1, echo=True)),
        request(output=OutputOptions(top_logprobs=0)),
        request(chat=Chat(messages=[USER]), output=OutputOptions(echo=False)),
        request(sampling=Sampling(temperature=100.0, top_p=1e-9, top_k=2**32 - 1, seed=2**63 - 1)),
        request(stopping=Stopping(max_tokens=1, stop=["x" * 1_024] * 16, time_limit_ms=1)),
        request(stopping=Stopping(stop_token_ids=[0] * 64, ignore_eos=True, include_stop=False)),
        request(output=OutputOptions(text=False, token_ids=True)),
        request(model="tiny", priority=-(2**31), cache_salt=""),
        request(request_id="A-Za-z0-9._:-" + "x" * 115),
    ],
)
def test_what_is_right_passes(asked: GenerationRequest) -> None:
    assert refused_field(asked) is None


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        (request(request_id=""), "request_id"),
        (request(request_id="x" * 129), "request_id"),
        (request(request_id="é"), "request_id"),
        (request(model=""), "model"),
        (request(prompt="x" * 101), "prompt"),
        (request(prompt="é" * 51), "prompt"),
        (request(prompt="\ud800"), "prompt"),
        (request(token_ids=[]), "token_ids"),
        (request(prompt="x", token_ids=[1]), "input"),
        (GenerationRequest(request_id="r", arrived_at=0), "input"),
        (request(chat=Chat(messages=[])), "chat.messages"),
        (chat(USER, Message(content="x")), "chat.messages[1].role"),
        (chat(Message(role="", content="x")), "chat.messages[0].role"),
        (chat(Message(role="user")), "chat.messages[0].content"),
        (chat(Message(role="user", content="\udfff")), "chat.messages[0].content"),
        (chat(Message(role="user", content="x" * 100)), "chat.messages"),
        (chat(USER, template_arguments={"a": math.nan}), "chat.template_arguments"),
        (chat(USER, template_arguments={"a": "\ud800"}), "chat.template_arguments"),
        (chat(USER, template_arguments={"\ud800": 1}), "chat.template_arguments"),
        (chat(USER, template_arguments={"a": 2**53 + 1}), "chat.template_arguments"),
        (chat(USER, template_arguments={"a": [-(10**400)]}), "chat.template_arguments"),
        (chat(USER, template_arguments={"a": ["x" * 2**17] * 3}), "chat.template_arguments"),
        (chat(USER, template_arguments={"a": [0] * 10_000}), "chat.template_arguments"),
        (chat(USER, template_arguments={"a": object()}), "chat.template_arguments"),
        *(
            (request(sampling=Sampling(temperature=v)), "sampling.temperature")
            for v in (-0.1, 100.5, math.nan, math.inf, -math.inf)
        ),
        *((request(sampling=Sampling(top_p=v)), "sampling.top_p") for v in (0, -1, 1.1, math.nan)),
        *((request(sampling=Sampling(top_k=v)), "sampling.top_k") for v in (-1, 2**32, 10**21)),
        *((request(sampling=Sampling(seed=v)), "sampling.seed") for v in (2**63, -(2**63) - 1)),
        *((request(sampling=Sampling(n=v)), "sampling.n") for v in (0, 33, 10**9)),
        *((request(sampling=Sampling(min_p=v)), "sampling.min_p") for v in (-0.1, 1.1, math.nan)),
        *(
            (request(sampling=Sampling(frequency_penalty=v)), "sampling.frequency_penalty")
            for v in (-2.1, 2.1, math.nan, math.inf)
        ),
        *(
            (request(sampling=Sampling(presence_penalty=v)), "sampling.presence_penalty")
            for v in (-2.1, 2.1, math.nan, math.inf)
        ),
        *(
            (request(sampling=Sampling(repetition_penalty=v)), "sampling.repetition_penalty")
            for v in (0, -1, 10.1, math.nan, math.inf)
        ),
        (request(sampling=Sampling(no_repeat_ngram=65)), "sampling.no_repeat_ngram"),
        (request(sampling=Sampling(logit_bias=dict.fromkeys(range(1_025), 1))), LOGIT_BIAS),
        *(
            (request(sampling=Sampling(logit_bias={7: v})), f"{LOGIT_BIAS}[7]")
            for v in (-100.1, 100.1, math.nan, math.inf, 1e38)
        ),
        (request(sampling=Sampling(bad_words=["x"] * 33)), "sampling.bad_words"),
        (request(sampling=Sampling(bad_words=["x", ""])), "sampling.bad_words[1]"),
        (request(sampling=Sampling(bad_words=["é" * 129])), "sampling.bad_words[0]"),
        (request(sampling=Sampling(bad_words=["\ud800"])), "sampling.bad_words[0]"),
        (request(sampling=Sampling(allowed_token_ids=[1] * 16_385)), "sampling.allowed_token_ids"),
        (
            request(sampling=Sampling(forced_token_ids=[1] * 3), stopping=Stopping(max_tokens=2)),
            "sampling.forced_token_ids",
        ),
        *(
            (request(stopping=Stopping(max_tokens=v)), "stopping.max_tokens")
            for v in (-1, 2**32, 2**63)
        ),
        (request(stopping=Stopping(min_tokens=-1)), "stopping.min_tokens"),
        (request(stopping=Stopping(min_tokens=3, max_tokens=2)), "stopping.min_tokens"),
        (request(stopping=Stopping(stop_token_sequences=[[1]] * 17)), SEQUENCES),
        (request(stopping=Stopping(stop_token_sequences=[[1], []])), f"{SEQUENCES}[1]"),
        (request(stopping=Stopping(stop_token_sequences=[[1] * 33])), f"{SEQUENCES}[0]"),
        (request(output=OutputOptions(logprobs=True, top_logprobs=21)), "output.top_logprobs"),
        (request(output=OutputOptions(top_logprobs=1)), "output.top_logprobs"),
        (request(output=OutputOptions(logprobs=False, top_logprobs=1)), "output.top_logprobs"),
        (request(chat=Chat(messages=[USER]), output=OutputOptions(echo=True)), "output.echo"),
        (request(stopping=Stopping(stop=["x"] * 17)), "stopping.stop"),
        (request(stopping=Stopping(stop=["x", ""])), "stopping.stop[1]"),
        (request(stopping=Stopping(stop=["é" * 513])), "stopping.stop[0]"),
        (request(stopping=Stopping(stop_token_ids=[1] * 65)), "stopping.stop_token_ids"),
        (request(stopping=Stopping(time_limit_ms=0)), "stopping.time_limit_ms"),
        (request(priority=2**31), "priority"),
        (request(cache_salt="x" * 257), "cache_salt"),
    ],
)
def test_what_is_wrong_is_refused_by_name(asked: GenerationRequest, field: str) -> None:
    assert refused_field(asked) == field


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        (request(constraint=Constraint(kind="regex", value="x")), "constraint"),
        (chat(USER, tools=[Tool(name="x")]), "chat.tools"),
        (chat(USER, tool_choice=ToolChoice()), "chat.tool_choice"),
        (
            chat(Message(role="assistant", content="", tool_calls=[ToolCall(id="x")])),
            "chat.messages.tool_calls",
        ),
        (chat(Message(role="tool", content="", tool_call_id="x")), "chat.messages.tool_call_id"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(asked: GenerationRequest, field: str) -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        check_request(asked, max_prompt_bytes=MAX_PROMPT_BYTES)
    assert (raised.value.reason, raised.value.metadata["field"]) == ("UNSUPPORTED_FIELD", field)


def test_deep_json_is_refused_without_recursion() -> None:
    deep: Any = {}
    for _ in range(100_000):
        deep = {"a": deep}
    try:
        assert refused_field(chat(USER, template_arguments=deep)) == "chat.template_arguments"
    finally:
        while deep:  # taken apart here: freeing it at once would recurse
            deep = deep.pop("a")


def test_a_call_of_a_tool_needs_no_content_and_is_what_is_refused() -> None:
    calling = Message(role="assistant", tool_calls=[ToolCall(id="1", name="f")])
    assert refused_field(chat(USER, calling)) == "chat.messages.tool_calls"
