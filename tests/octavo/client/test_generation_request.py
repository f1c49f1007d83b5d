"""Flat parameters become the wire's request; what cannot be put on the wire is refused by name."""

from __future__ import annotations

import re
from typing import Any, cast

import pytest
from google.protobuf import json_format

from octavo.client.generation_parameters import GenerationParameters
from octavo.client.generation_request import generate_request
from octavo.errors import InvalidArgumentError
from octavo.v1 import generation_pb2 as pb

MESSAGES = [{"role": "user", "content": "Hi"}]
# Wire fields that no parameter sets: the input, and what no server accepts yet.
NOT_PARAMETERS = {"prompt", "token_ids", "chat", "sampling", "stopping", "output", "constraint"}


def request(**given: Any) -> pb.GenerateRequest:
    prompt, messages, ids = (given.pop(name, None) for name in ("prompt", "messages", "token_ids"))
    if prompt is messages is ids is None:
        prompt = "Hi"
    return generate_request(prompt, messages, ids, cast("GenerationParameters", given))


def test_every_field_of_the_wire_has_its_parameter() -> None:
    message = pb.GenerateRequest
    groups = (pb.SamplingParameters, pb.StoppingParameters, pb.OutputOptions)
    names = {field.name for field in message.DESCRIPTOR.fields} - NOT_PARAMETERS
    names |= {field.name for group in groups for field in group.DESCRIPTOR.fields}
    names = names - {"token_ids"} | {"tokens", "template_arguments"}
    assert set(GenerationParameters.__annotations__) == names


def test_each_kind_of_value_reaches_its_field() -> None:
    made = request(
        temperature=0,
        n=2,
        logit_bias={5: -1.5},
        bad_words=["x", "y"],
        forced_token_ids=[1, 2],
        stop="END",
        stop_token_sequences=[[1, 2], [3]],
        ignore_eos=False,
        tokens=True,
        text=False,
        priority=-1,
        cache_salt="",
        request_id="r",
    )
    assert made == pb.GenerateRequest(
        prompt="Hi",
        request_id="r",
        priority=-1,
        cache_salt="",
        sampling=pb.SamplingParameters(
            temperature=0, n=2, logit_bias={5: -1.5}, bad_words=["x", "y"], forced_token_ids=[1, 2]
        ),
        stopping=pb.StoppingParameters(
            stop=["END"],
            stop_token_sequences=[pb.TokenIds(ids=[1, 2]), pb.TokenIds(ids=[3])],
            ignore_eos=False,
        ),
        output=pb.OutputOptions(token_ids=True, text=False),
    )


def test_none_is_absent() -> None:
    assert request(temperature=None, stop=None, model=None) == pb.GenerateRequest(prompt="Hi")


def test_each_input() -> None:
    assert request(prompt="").WhichOneof("input") == "prompt"
    assert list(request(token_ids=iter([1, 2])).token_ids.ids) == [1, 2]
    chat = request(messages=MESSAGES, template_arguments={"deep": {"list": [1, None]}}).chat
    assert chat.messages[0].content == "Hi"
    assert json_format.MessageToDict(chat.template_arguments) == {"deep": {"list": [1, None]}}
    call = {"id": "1", "name": "f", "arguments": "{}"}
    made = request(messages=[{"role": "assistant", "content": None, "tool_calls": [call]}])
    assert made.chat.messages[0].tool_calls[0].name == "f"


@pytest.mark.parametrize(
    ("given", "field", "limit"),
    [
        ({"prompt": "a", "token_ids": [1]}, "input", "exactly one"),
        ({"prompt": b"\xff"}, "prompt", "text"),
        ({"prompt": "\ud800"}, "prompt", "text"),
        ({"token_ids": [-1]}, "token_ids", "whole number from 0"),
        ({"token_ids": "123"}, "token_ids", "whole number"),
        ({"token_ids": 5}, "token_ids", "list"),
        ({"messages": "Hi"}, "messages", "a list"),
        ({"messages": ["Hi"]}, "messages[0]", "mapping"),
        ({"messages": [{"role": "user", "contnet": "x"}]}, "messages[0].contnet", "content"),
        ({"messages": [{"role": 5}]}, "messages[0].role", "text"),
        ({"messages": [{"tool_calls": [{"x": 1}]}]}, "messages[0].tool_calls", "arguments"),
        ({"template_arguments": {"a": 1}}, "template_arguments", "messages"),
        ({"messages": MESSAGES, "template_arguments": {"a": {1}}}, "template_arguments", "JSON"),
        ({"temperature": "hot"}, "temperature", "a number"),
        ({"max_tokens": 1.5}, "max_tokens", "whole number from 0 to 4294967295"),
        ({"max_tokens": 10**21}, "max_tokens", "whole number"),
        ({"max_tokens": float("nan")}, "max_tokens", "whole number"),
        ({"seed": 2**63}, "seed", "64 bits"),
        ({"ignore_eos": "yes"}, "ignore_eos", "True or False"),
        ({"stop": [b"\xff"]}, "stop", "text"),
        ({"logit_bias": [1]}, "logit_bias", "mapping"),
        ({"stop_token_sequences": [1]}, "stop_token_sequences", "lists of token ids"),
    ],
)
def test_what_cannot_be_sent_is_named(given: dict[str, Any], field: str, limit: str) -> None:
    with pytest.raises(InvalidArgumentError, match=re.escape(limit)) as caught:
        request(**given)
    assert caught.value.metadata["field"] == field


def test_a_keyword_that_is_none_is_a_type_error() -> None:
    with pytest.raises(TypeError, match=r"top_q is not a parameter .*did you mean top_"):
        request(top_q=1)
