"""Every limit of a request, and what the errors say."""

from __future__ import annotations

import math
from typing import Any

import pytest

from gateway.accepted_fields import capabilities
from gateway.model_card import GenerationDefaults, ModelCard
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
from gateway.validation import check_against_model, check_request
from octavo.errors import InvalidArgumentError

MAX_PROMPT_BYTES = 100
MODEL = ModelCard(
    name="tiny",
    created_at_s=1,
    max_context_tokens=16,
    vocabulary_size=50,
    eos_token_ids=(2,),
    tokenizer_fingerprint="t",
    checkpoint_fingerprint="c",
    has_chat_template=False,
    defaults=GenerationDefaults(temperature=1, top_p=1, top_k=0),
    capabilities=capabilities(max_prompt_bytes=MAX_PROMPT_BYTES, max_session_requests=4),
    ready=True,
)


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
    return request(chat=Chat(messages=messages or (Message(role="user", content="x"),), **fields))


USER = Message(role="user", content="x")


@pytest.mark.parametrize(
    "asked",
    [
        request(),
        request(prompt=""),
        request(token_ids=[0, 1]),
        chat(USER, template_arguments={"a": [1, {"b": None}], "c": 0.5, "d": True}),
        chat(Message(role="system", content=""), USER, Message(role="x", content="y", name="z")),
        request(sampling=Sampling(temperature=0, top_p=1, top_k=0, seed=-(2**63), n=1)),
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
        (chat(USER, template_arguments={"a": object()}), "chat.template_arguments"),
        *(
            (request(sampling=Sampling(temperature=v)), "sampling.temperature")
            for v in (-0.1, 100.5, math.nan, math.inf, -math.inf)
        ),
        *((request(sampling=Sampling(top_p=v)), "sampling.top_p") for v in (0, -1, 1.1, math.nan)),
        *((request(sampling=Sampling(top_k=v)), "sampling.top_k") for v in (-1, 2**32, 10**21)),
        *((request(sampling=Sampling(seed=v)), "sampling.seed") for v in (2**63, -(2**63) - 1)),
        *((request(sampling=Sampling(n=v)), "sampling.n") for v in (0, 2, 10**9)),
        *(
            (request(stopping=Stopping(max_tokens=v)), "stopping.max_tokens")
            for v in (0, -1, 2**63)
        ),
        (request(stopping=Stopping(stop=["x"] * 17)), "stopping.stop"),
        (request(stopping=Stopping(stop=["x", ""])), "stopping.stop[1]"),
        (request(stopping=Stopping(stop=["é" * 513])), "stopping.stop[0]"),
        (request(stopping=Stopping(stop_token_ids=[1] * 65)), "stopping.stop_token_ids"),
        (request(stopping=Stopping(stop_token_ids=[-1])), "stopping.stop_token_ids[0]"),
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
        (request(sampling=Sampling(min_p=0.1)), "sampling.min_p"),
        (request(sampling=Sampling(frequency_penalty=0.0)), "sampling.frequency_penalty"),
        (request(sampling=Sampling(logit_bias={1: 2.0})), "sampling.logit_bias"),
        (request(sampling=Sampling(bad_words=["x"])), "sampling.bad_words"),
        (request(stopping=Stopping(min_tokens=0)), "stopping.min_tokens"),
        (request(output=OutputOptions(logprobs=False)), "output.logprobs"),
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


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        (request(token_ids=[1, 50]), "token_ids[1]"),
        (request(token_ids=[1] * 16), "token_ids"),
        (request(stopping=Stopping(stop_token_ids=[50])), "stopping.stop_token_ids[0]"),
        (chat(USER), "chat"),
    ],
)
def test_what_the_model_does_not_have_is_refused(asked: GenerationRequest, field: str) -> None:
    check_request(asked, max_prompt_bytes=MAX_PROMPT_BYTES)
    with pytest.raises(InvalidArgumentError) as raised:
        check_against_model(asked, MODEL)
    assert raised.value.metadata["field"] == field
