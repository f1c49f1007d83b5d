"""From the public wire's requests to the gateway's own types.

Checks are validation's, but for what would take long to convert: a million messages, or values of
template arguments, are refused by their number. Lists of ids stay protobuf's for the same reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from google.protobuf import struct_pb2

from gateway import request as domain
from gateway.field_checks import MAX_JSON_BYTES
from gateway.validation import check_num_messages
from octavo.errors import InWords, invalid_field
from octavo.v1 import generation_pb2 as pb


def generation_request_from_pb(
    message: pb.GenerateRequest,
    *,
    request_id: str,
    arrived_at: float,
    deadline_at: float | None,
    sent_at_once: bool = False,
) -> domain.GenerationRequest:
    """`message` with the id, arrival and deadline that the call gave it, and how it is answered."""
    given = message.WhichOneof("input")
    return domain.GenerationRequest(
        request_id=request_id,
        arrived_at=arrived_at,
        deadline_at=deadline_at,
        sent_at_once=sent_at_once,
        model=_given(message, "model"),
        prompt=message.prompt if given == "prompt" else None,
        token_ids=message.token_ids.ids if given == "token_ids" else None,
        chat=chat_from_pb(message.chat) if given == "chat" else None,
        sampling=_sampling_from_pb(message.sampling),
        stopping=_stopping_from_pb(message.stopping),
        output=_output_from_pb(message.output),
        constraint=_constraint_from_pb(message),
        priority=_given(message, "priority"),
        cache_salt=_given(message, "cache_salt"),
    )


def chat_from_pb(chat: pb.ChatInput) -> domain.Chat:
    """A conversation; raises InvalidArgumentError where it has too many messages."""
    check_num_messages(len(chat.messages))
    return domain.Chat(
        messages=tuple(_message_from_pb(message) for message in chat.messages),
        tools=_Each(chat.tools, _tool_from_pb),
        tool_choice=_tool_choice_from_pb(chat),
        template_arguments=_template_arguments_from_pb(chat),
    )


def _template_arguments_from_pb(chat: pb.ChatInput) -> Mapping[str, Any] | None:
    if not chat.HasField("template_arguments"):
        return None
    if (num_bytes := chat.template_arguments.ByteSize()) > MAX_JSON_BYTES:
        limit = f"at most {MAX_JSON_BYTES} bytes"
        raise invalid_field("chat.template_arguments", InWords(f"{num_bytes} bytes"), limit)
    return struct_from_pb(chat.template_arguments)


def struct_from_pb(struct: struct_pb2.Struct) -> Mapping[str, Any]:
    """A Struct as plain values; the depth is bounded by what protobuf decodes (100 messages)."""
    return {name: _value_from_pb(value) for name, value in struct.fields.items()}


class _Each(Sequence[Any]):
    """The items of a repeated field, each converted when it is looked at."""

    def __init__(self, items: Sequence[Any], convert: Callable[[Any], Any]) -> None:
        self._items = items
        self._convert = convert

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._convert(item) for item in self._items[index]]
        return self._convert(self._items[index])


def _ids_of(sequence: pb.TokenIds) -> Sequence[int]:
    return sequence.ids


def _given(message: Any, field: str) -> Any:
    return getattr(message, field) if message.HasField(field) else None


def _all_given(message: Any, *fields: str) -> dict[str, Any]:
    return {field: _given(message, field) for field in fields}


def _value_from_pb(value: struct_pb2.Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return struct_from_pb(value.struct_value)
    if kind == "list_value":
        return [_value_from_pb(item) for item in value.list_value.values]
    return None if kind in (None, "null_value") else getattr(value, kind)


def _message_from_pb(message: pb.ChatMessage) -> domain.Message:
    return domain.Message(
        **_all_given(message, "role", "content", "name", "tool_call_id"),
        tool_calls=_Each(message.tool_calls, _tool_call_from_pb),
    )


def _tool_call_from_pb(call: pb.ToolCall) -> domain.ToolCall:
    return domain.ToolCall(**_all_given(call, "id", "name", "arguments"))


def _tool_from_pb(tool: pb.Tool) -> domain.Tool:
    return domain.Tool(**_all_given(tool, "name", "description", "parameters_schema", "strict"))


def _tool_choice_from_pb(chat: pb.ChatInput) -> domain.ToolChoice | None:
    if not chat.HasField("tool_choice"):
        return None
    mode = _given(chat.tool_choice, "mode")
    return domain.ToolChoice(
        mode=None if mode is None else _mode_name(mode), name=_given(chat.tool_choice, "name")
    )


def _mode_name(mode: pb.ToolChoiceMode.ValueType) -> str:
    """Enums of proto3 are open: a number that has no name stays a number, which no check takes."""
    if mode not in pb.ToolChoiceMode.values():
        return str(mode)
    return pb.ToolChoiceMode.Name(mode).removeprefix("TOOL_CHOICE_MODE_").lower()


def _sampling_from_pb(sampling: pb.SamplingParameters) -> domain.Sampling:
    return domain.Sampling(
        **_all_given(
            sampling,
            "temperature",
            "top_p",
            "top_k",
            "min_p",
            "frequency_penalty",
            "presence_penalty",
            "repetition_penalty",
            "no_repeat_ngram",
            "seed",
            "n",
        ),
        logit_bias=sampling.logit_bias,
        bad_words=sampling.bad_words,
        allowed_token_ids=sampling.allowed_token_ids,
        forced_token_ids=sampling.forced_token_ids,
    )


def _stopping_from_pb(stopping: pb.StoppingParameters) -> domain.Stopping:
    return domain.Stopping(
        **_all_given(
            stopping, "max_tokens", "min_tokens", "ignore_eos", "include_stop", "time_limit_ms"
        ),
        stop=stopping.stop,
        stop_token_ids=stopping.stop_token_ids,
        stop_token_sequences=_Each(stopping.stop_token_sequences, _ids_of),
    )


def _output_from_pb(output: pb.OutputOptions) -> domain.OutputOptions:
    return domain.OutputOptions(
        **_all_given(
            output, "text", "token_ids", "logprobs", "top_logprobs", "prompt_logprobs", "echo"
        )
    )


def _constraint_from_pb(message: pb.GenerateRequest) -> domain.Constraint | None:
    if not message.HasField("constraint"):
        return None
    kind = message.constraint.WhichOneof("language")
    if kind == "choice":
        return domain.Constraint(kind=kind, value=message.constraint.choice.texts)
    value = getattr(message.constraint, kind) if kind not in (None, "json_object") else None
    return domain.Constraint(kind=kind or "", value=value)
