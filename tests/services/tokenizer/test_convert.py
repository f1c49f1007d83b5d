"""What a chat template gets to see of a request."""

from __future__ import annotations

import pytest

from octavo.errors import InvalidArgumentError
from octavo.v1 import tokenizer_pb2 as pb
from services.tokenizer.convert import arguments_from_pb, messages_from_pb, tools_from_pb


def test_absent_fields_are_absent() -> None:
    messages = messages_from_pb(
        pb.RenderChatRequest(
            messages=[
                pb.TemplateMessage(role="user"),
                pb.TemplateMessage(role="tool", content="x", name="n", tool_call_id="1"),
            ]
        )
    )
    assert messages == [
        {"role": "user", "content": ""},
        {"role": "tool", "content": "x", "name": "n", "tool_call_id": "1"},
    ]


def test_tool_calls_have_their_arguments_as_values() -> None:
    call = pb.TemplateToolCall(id="1", name="f", arguments='{"x": [1, "y"]}')
    message = pb.TemplateMessage(role="assistant", tool_calls=[call])
    (found,) = messages_from_pb(pb.RenderChatRequest(messages=[message]))
    function = {"name": "f", "arguments": {"x": [1, "y"]}}
    assert found["content"] is None
    assert found["tool_calls"] == [{"id": "1", "type": "function", "function": function}]


def test_tools_have_openai_s_form() -> None:
    tool = pb.TemplateTool(name="f", description="d", parameters_schema='{"type": "object"}')
    (found,) = tools_from_pb(pb.RenderChatRequest(tools=[tool]))
    function = {"name": "f", "description": "d", "parameters": {"type": "object"}}
    assert found == {"type": "function", "function": function}


def test_whole_numbers_are_integers() -> None:
    request = pb.RenderChatRequest()
    request.template_arguments.update({"a": 1, "b": 1.5, "c": [2, {"d": 3}], "e": True, "f": None})
    found = arguments_from_pb(request)
    assert found == {"a": 1, "b": 1.5, "c": [2, {"d": 3}], "e": True, "f": None}
    assert isinstance(found["a"], int)
    assert isinstance(found["c"][1]["d"], int)
    assert found["e"] is True


@pytest.mark.parametrize("number", [float("inf"), float("nan")])
def test_numbers_without_a_value_are_refused(number: float) -> None:
    request = pb.RenderChatRequest()
    request.template_arguments.update({"a": number})
    with pytest.raises(InvalidArgumentError) as caught:
        arguments_from_pb(request)
    assert caught.value.metadata["field"] == "chat.template_arguments"


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "[" * 102 + "]" * 102, "1" * 5_000])
def test_json_that_cannot_be_read_is_refused(text: str) -> None:
    call = pb.TemplateToolCall(name="f", arguments=text)
    message = pb.TemplateMessage(role="assistant", tool_calls=[call])
    with pytest.raises(InvalidArgumentError) as caught:
        messages_from_pb(pb.RenderChatRequest(messages=[message]))
    assert caught.value.metadata["field"] == "messages.tool_calls.arguments"
    with pytest.raises(InvalidArgumentError):
        tools_from_pb(pb.RenderChatRequest(tools=[pb.TemplateTool(parameters_schema=text)]))
