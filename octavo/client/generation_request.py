"""From flat keyword parameters to the messages of generation.proto.

Only what cannot be put on the wire is refused here; values are the server's to check.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from octavo.client.generation_parameters import GenerationParameters, Message
from octavo.errors import InWords, invalid_field
from octavo.v1 import generation_pb2 as pb

_GROUPS = ("sampling", "stopping", "output")
_WIRE_NAMES = {"tokens": "token_ids"}  # `token_ids` is an input here
_LIMITS = {
    FieldDescriptor.TYPE_BOOL: "True or False",
    FieldDescriptor.TYPE_DOUBLE: "a number",
    FieldDescriptor.TYPE_INT32: "a whole number of 32 bits",
    FieldDescriptor.TYPE_INT64: "a whole number of 64 bits",
    FieldDescriptor.TYPE_STRING: "valid text",
    FieldDescriptor.TYPE_UINT32: "a whole number from 0 to 4294967295",
    FieldDescriptor.TYPE_UINT64: "a whole number from 0 to 2**64 - 1",
}


def generate_request(
    prompt: str | None,
    messages: Sequence[Message] | None,
    token_ids: Sequence[int] | None,
    parameters: GenerationParameters,
) -> pb.GenerateRequest:
    """The request for one generation. Raises InvalidArgumentError, or TypeError for a keyword
    that is no parameter.
    """
    given = {"prompt": prompt, "messages": messages, "token_ids": token_ids}
    names = [name for name, value in given.items() if value is not None]
    if len(names) != 1:
        raise invalid_field("input", names, "exactly one of prompt, messages and token_ids")
    request = pb.GenerateRequest()
    if messages is None and parameters.get("template_arguments") is not None:
        raise invalid_field("template_arguments", InWords("given"), "absent without messages")
    if messages is not None:
        request.chat.CopyFrom(chat_input(messages, parameters.get("template_arguments")))
    elif prompt is not None:
        _set(request, "prompt", prompt)
    else:
        _set(request.token_ids, "ids", token_ids, shown_as="token_ids")
    for name, value in parameters.items():
        message = _message_of(request, name)
        if value is not None and name != "template_arguments":
            _set(message, _WIRE_NAMES.get(name, name), value, shown_as=name)
    return request


def tokenize_request(
    text: str | None,
    messages: Sequence[Message] | None,
    *,
    template_arguments: Mapping[str, Any] | None,
    **parameters: Any,
) -> pb.TokenizeRequest:
    """The request for the token ids of a text or a conversation."""
    if (text is None) == (messages is None):
        names = [] if text is None else ["text", "messages"]
        raise invalid_field("input", names, "exactly one of text and messages")
    request = pb.TokenizeRequest()
    if messages is not None:
        request.chat.CopyFrom(chat_input(messages, template_arguments))
    else:
        _set(request, "text", text)
    _set_given(request, parameters)
    return request


def detokenize_request(token_ids: Sequence[int], **parameters: Any) -> pb.DetokenizeRequest:
    """The request for the text of token ids."""
    request = pb.DetokenizeRequest()
    _set(request, "token_ids", token_ids)
    _set_given(request, parameters)
    return request


def chat_input(
    messages: Sequence[Message], template_arguments: Mapping[str, Any] | None
) -> pb.ChatInput:
    """A conversation."""
    chat = pb.ChatInput()
    for index, message in enumerate(_as_list("messages", messages)):
        _add_message(chat, f"messages[{index}]", message)
    if template_arguments is not None:
        try:
            chat.template_arguments.update(template_arguments)
        except (AttributeError, TypeError, ValueError):
            raise invalid_field("template_arguments", template_arguments, "a JSON object") from None
    return chat


def _as_list(field: str, value: Any) -> Sequence[Any]:
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise invalid_field(field, value, "a list")
    return value


def _add_message(chat: pb.ChatInput, path: str, message: Any) -> None:
    if not isinstance(message, Mapping):
        raise invalid_field(path, message, "a mapping with role and content")
    added = chat.messages.add()
    for name, value in message.items():
        if name not in pb.ChatMessage.DESCRIPTOR.fields_by_name:
            known = ", ".join(pb.ChatMessage.DESCRIPTOR.fields_by_name)
            raise invalid_field(f"{path}.{name}", value, f"absent: a message has {known}")
        if value is not None:
            _set(added, name, value, shown_as=f"{path}.{name}")


def _message_of(request: pb.GenerateRequest, parameter: str) -> Any:
    """The part of the request that holds a parameter."""
    known = GenerationParameters.__annotations__
    if parameter not in known:
        near = difflib.get_close_matches(parameter, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise TypeError(f"{parameter} is not a parameter of a generation{hint}")
    wire_name = _WIRE_NAMES.get(parameter, parameter)
    for group in _GROUPS:
        if wire_name in getattr(request, group).DESCRIPTOR.fields_by_name:
            return getattr(request, group)
    return request


def _set_given(message: Any, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if value is not None:
            _set(message, name, value)


def _set(message: Any, field: str, value: Any, *, shown_as: str | None = None) -> None:
    """Sets a field of any kind; a value that it cannot hold is an InvalidArgumentError."""
    descriptor = message.DESCRIPTOR.fields_by_name[field]
    try:
        if not descriptor.is_repeated:
            setattr(message, field, value)
        elif descriptor.message_type is None:
            # One stop text may be given as it is; any other text is no list of its characters.
            getattr(message, field).extend([value] if isinstance(value, str) else value)
        elif descriptor.message_type.GetOptions().map_entry:
            getattr(message, field).update(value)
        else:
            _add_messages(getattr(message, field), descriptor, value)
    except (AttributeError, TypeError, ValueError):
        raise invalid_field(shown_as or field, value, _limit(descriptor)) from None


def _add_messages(container: Any, descriptor: FieldDescriptor, values: Any) -> None:
    """Token sequences are lists of ids; tool calls are mappings with the fields of the wire."""
    for value in values:
        if descriptor.message_type is pb.TokenIds.DESCRIPTOR:
            container.add(ids=value)
        else:
            container.add(**value)


def _limit(descriptor: FieldDescriptor) -> str:
    """What a field holds, for the error about a value that it cannot hold."""
    if descriptor.message_type is None:
        limit = _LIMITS[descriptor.type]
        return f"a list, each {limit}" if descriptor.is_repeated else limit
    if descriptor.message_type.GetOptions().map_entry:
        return "a mapping from token ids to numbers"
    if descriptor.message_type is pb.TokenIds.DESCRIPTOR:
        return "a list of lists of token ids"
    return f"a list of mappings with {', '.join(descriptor.message_type.fields_by_name)}"
