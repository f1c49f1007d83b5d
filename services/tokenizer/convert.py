"""From the wire to what a chat template sees."""

from __future__ import annotations

import json
from typing import Any

from google.protobuf.json_format import MessageToDict

from octavo.errors import InWords, invalid_field
from octavo.v1 import tokenizer_pb2 as pb

# Levels of lists and objects in JSON; what goes through all of them calls itself for each.
_MAX_DEPTH = 64


def messages_from_pb(request: pb.RenderChatRequest) -> list[dict[str, Any]]:
    """The messages as templates expect them: absent fields are absent."""
    return [_message(message) for message in request.messages]


def tools_from_pb(request: pb.RenderChatRequest) -> list[dict[str, Any]]:
    """The tools in OpenAI's form, which templates are written for."""
    return [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": _json(tool.parameters_schema or "{}", "tools.parameters_schema"),
            },
        }
        for tool in request.tools
    ]


def arguments_from_pb(request: pb.RenderChatRequest) -> dict[str, Any]:
    """The template's arguments. A Struct knows one kind of number; whole ones become int."""
    if not request.HasField("template_arguments"):
        return {}
    try:
        arguments = MessageToDict(request.template_arguments)
    except ValueError:  # infinity and NaN are no JSON
        raise invalid_field(
            "chat.template_arguments", InWords("no number"), "finite numbers"
        ) from None
    whole: dict[str, Any] = _whole_numbers(arguments)
    return whole


def _message(message: pb.TemplateMessage) -> dict[str, Any]:
    values: dict[str, Any] = {"role": message.role, "content": None}
    for name in ("content", "name", "tool_call_id"):
        if message.HasField(name):
            values[name] = getattr(message, name)
    if message.tool_calls:
        values["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {
                    "name": call.name,
                    "arguments": _json(call.arguments or "{}", "messages.tool_calls.arguments"),
                },
            }
            for call in message.tool_calls
        ]
    elif values["content"] is None:
        values["content"] = ""
    return values


def _json(text: str, field: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise invalid_field(field, text, "JSON") from None
    if _is_deep(value):
        raise invalid_field(field, text, f"JSON that is at most {_MAX_DEPTH} levels deep")
    return value


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(_MAX_DEPTH):
        holders = [entry for entry in level if isinstance(entry, dict | list)]
        level = [
            entry
            for holder in holders
            for entry in (holder.values() if isinstance(holder, dict) else holder)
        ]
        if not level:
            return False
    return True


def _whole_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _whole_numbers(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_whole_numbers(entry) for entry in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
