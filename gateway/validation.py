"""Checks a request by itself, against the table of accepted fields.

A field that is set and not in the table is refused by name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gateway.accepted_fields import ACCEPTED
from gateway.field_checks import utf8_length
from gateway.request import Chat, GenerationRequest, Message
from octavo.errors import InvalidArgumentError, InWords, invalid_field, unsupported_field

MAX_MESSAGES = 4_096
_NOT_FROM_THE_CLIENT = {"arrived_at", "deadline_at", "sent_at_once"}


def check_request(request: GenerationRequest, *, max_prompt_bytes: int) -> None:
    """Checks all that can be checked without knowing the model; raises InvalidArgumentError. How
    many there are of something comes before what they are.
    """
    _check_input(request)
    _check_characters(request.prompt, request.chat, max_prompt_bytes)
    _check_fields(request, "", "")
    if request.chat is not None:
        _check_messages(request.chat.messages)
    check_input_bytes(request, max_prompt_bytes)
    _check_together(request)


def check_input_bytes(request: GenerationRequest, max_bytes: int) -> None:
    """Text may have so many bytes; ids are counted against the context instead."""
    num_bytes = input_bytes(request)
    if num_bytes > max_bytes and request.token_ids is None:
        field = "prompt" if request.prompt is not None else "chat.messages"
        raise invalid_field(field, InWords(f"{num_bytes} bytes"), f"at most {max_bytes} bytes")


def input_bytes(request: GenerationRequest) -> int:
    """The bytes that the request's input takes, for limits and admission."""
    if request.token_ids is not None:
        return 4 * len(request.token_ids)
    if request.prompt is not None:
        return utf8_length("prompt", request.prompt)
    assert request.chat is not None
    return chat_bytes(request.chat)


def chat_bytes(chat: Chat) -> int:
    """The bytes of all texts of a conversation."""
    texts = (part for m in chat.messages for part in (m.role, m.content, m.name))
    return sum(utf8_length("chat.messages", part) for part in texts if part is not None)


def check_chat_fields(chat: Chat, *, max_prompt_bytes: int) -> None:
    """Checks a conversation by itself, as Tokenize takes it."""
    check_num_messages(len(chat.messages))
    _check_characters(None, chat, max_prompt_bytes)
    _check_fields(chat, "chat", "chat")
    _check_messages(chat.messages)
    if (num_bytes := chat_bytes(chat)) > max_prompt_bytes:
        raise invalid_field(
            "chat.messages", InWords(f"{num_bytes} bytes"), f"at most {max_prompt_bytes} bytes"
        )


def check_num_messages(count: int) -> None:
    """A conversation has at least one message, and not too many."""
    if not 1 <= count <= MAX_MESSAGES:
        limit = f"1 to {MAX_MESSAGES} messages"
        raise invalid_field("chat.messages", InWords(f"{count} messages"), limit)


def is_absent(value: Any) -> bool:
    """Whether a field of a request was not set; on the wire an empty list is the same as none."""
    is_list = isinstance(value, Sequence | Mapping) and not isinstance(value, str)
    return value is None or (is_list and len(value) == 0)


def _check_fields(message: Any, path: str, shown_path: str) -> None:
    """Checks each field that is set. `shown_path` is `path` with the indexes of lists."""
    for field in dataclasses.fields(message):
        value = getattr(message, field.name)
        if field.name in _NOT_FROM_THE_CLIENT or is_absent(value):
            continue
        inner = f"{path}.{field.name}" if path else field.name
        shown = f"{shown_path}.{field.name}" if shown_path else field.name
        if inner in ACCEPTED:
            ACCEPTED[inner](shown, value)
        elif not any(accepted.startswith(f"{inner}.") for accepted in ACCEPTED):
            raise unsupported_field(inner)
        else:
            for indexed, item in _messages(shown, value):
                _check_fields(item, inner, indexed)


def _messages(shown: str, value: Any) -> Iterable[tuple[str, Any]]:
    if not isinstance(value, Sequence):
        return [(shown, value)]
    return ((f"{shown}[{index}]", item) for index, item in enumerate(value))


def _check_input(request: GenerationRequest) -> None:
    inputs = [n for n in ("prompt", "token_ids", "chat") if getattr(request, n) is not None]
    if len(inputs) != 1:
        given = " and ".join(inputs) or "absent"
        raise invalid_field("input", InWords(given), "exactly one of prompt, token_ids and chat")
    if request.token_ids is not None:
        ACCEPTED["token_ids"]("token_ids", request.token_ids)
    if request.chat is not None:
        check_num_messages(len(request.chat.messages))


def _check_characters(prompt: str | None, chat: Chat | None, max_bytes: int) -> None:
    """There are no more characters than bytes, and they need no counting."""
    contents = (message.content or "" for message in chat.messages) if chat is not None else ()
    for field, size in (("prompt", len(prompt or "")), ("chat.messages", sum(map(len, contents)))):
        if size > max_bytes:
            raise invalid_field(field, InWords(f"{size} characters"), f"at most {max_bytes} bytes")


def _check_together(request: GenerationRequest) -> None:
    """Fields that bound each other."""
    stopping, output = request.stopping, request.output
    max_tokens, min_tokens = stopping.max_tokens, stopping.min_tokens
    num_forced = len(request.sampling.forced_token_ids)
    if max_tokens is not None and (min_tokens or 0) > max_tokens:
        limit = f"at most max_tokens, {max_tokens}"
        raise invalid_field("stopping.min_tokens", min_tokens, limit)
    if max_tokens is not None and num_forced > max_tokens:
        limit = f"at most max_tokens, {max_tokens}, ids"
        raise invalid_field("sampling.forced_token_ids", InWords(f"{num_forced} ids"), limit)
    if output.top_logprobs and not (output.logprobs or output.prompt_logprobs):
        limit = "0 or absent where neither logprobs nor prompt_logprobs are asked for"
        raise invalid_field("output.top_logprobs", output.top_logprobs, limit)
    if output.echo and request.chat is not None:
        raise invalid_field("output.echo", True, "false or absent with chat: it repeats prompts")


def _check_messages(messages: Sequence[Message]) -> None:
    """Each has what every message must have."""
    for index, message in enumerate(messages):
        if message.role is None:
            raise _absent(f"chat.messages[{index}].role", "the role that speaks")
        if message.content is None and not message.tool_calls:
            raise _absent(f"chat.messages[{index}].content", "text")


def _absent(field: str, limit: str) -> InvalidArgumentError:
    return invalid_field(field, None, limit)
