"""What GetModel lists is accepted by the running product, and nothing else is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import struct_pb2
from google.protobuf.descriptor import FieldDescriptor

from octavo.v1 import generation_pb2 as pb
from octavo.v1.generation_pb2_grpc import ModelServiceStub
from tests.end_to_end.product import Product, reason_of

# A value for each field that is within every limit; what is missing here takes 1 of its type.
VALUES: dict[str, Any] = {
    "request_id": "capability-test",
    "prompt": "Hello",
    "sampling.temperature": 0.5,
    "sampling.top_p": 0.5,
    "sampling.min_p": 0.1,
    "stopping.stop": ["never"],
    "stopping.max_tokens": 2,
    "stopping.time_limit_ms": 5000,
    "sampling.bad_words": ["never"],
    "output.text": True,
    "chat.messages.role": "assistant",
}
# Named as wholes, by capabilities and refusals alike.
WHOLE_MESSAGES = (
    "token_ids",
    "chat.messages.tool_calls",
    "chat.tools",
    "chat.template_arguments",
    "chat.tool_choice",
    "sampling.logit_bias",
    "stopping.stop_token_sequences",
    "constraint",
)


# A message that holds each field that is named as a whole.
MESSAGES: dict[str, Any] = {
    "token_ids": pb.GenerateRequest(token_ids=pb.TokenIds(ids=[5, 6])),
    "chat.messages.tool_calls": pb.ChatMessage(tool_calls=[pb.ToolCall(id="1", name="f")]),
    "chat.tools": pb.ChatInput(tools=[pb.Tool(name="f", parameters_schema="{}")]),
    "chat.template_arguments": pb.ChatInput(template_arguments=struct_pb2.Struct()),
    "chat.tool_choice": pb.ChatInput(tool_choice=pb.ToolChoice(mode=pb.TOOL_CHOICE_MODE_NONE)),
    "sampling.logit_bias": pb.SamplingParameters(logit_bias={5: 1.0}),
    "stopping.stop_token_sequences": pb.StoppingParameters(
        stop_token_sequences=[pb.TokenIds(ids=[5, 6])]
    ),
    "constraint": pb.GenerateRequest(constraint=pb.Constraint(regex="a")),
}


def paths(descriptor: Any, prefix: str = "") -> Iterator[str]:
    """The paths of all fields below a message."""
    for field in descriptor.fields:
        path = prefix + field.name
        if field.message_type is None or path in WHOLE_MESSAGES:
            yield path
        else:
            yield from paths(field.message_type, path + ".")


def set_field(request: pb.GenerateRequest, path: str, model: str) -> None:
    message: Any = request
    *parents, name = path.split(".")
    for parent in parents:
        message = getattr(message, parent)
        if parent == "messages":
            message = message.add(role="user", content="Hello")
    field = message.DESCRIPTOR.fields_by_name[name]
    value = model if path == "model" else VALUES.get(path)
    if field.message_type is not None:
        message.MergeFrom(MESSAGES[path])
    elif field.is_repeated:
        getattr(message, name).extend(value or [5])
    else:
        default = "x" if field.type == FieldDescriptor.TYPE_STRING else 1
        setattr(message, name, default if value is None else value)


def request_with(path: str, model: str) -> pb.GenerateRequest:
    request = pb.GenerateRequest()
    set_field(request, path, model)
    if path.startswith("chat.") and not request.chat.messages:
        request.chat.messages.add(role="user", content="Hello")
    if request.WhichOneof("input") is None:
        request.prompt = "Hello"
    if not request.stopping.HasField("max_tokens"):
        request.stopping.max_tokens = 2
    return request


@pytest.mark.parametrize("path", sorted(paths(pb.GenerateRequest.DESCRIPTOR)))
def test_advertised_is_accepted_and_the_rest_is_refused_by_name(tiny: Product, path: str) -> None:
    with grpc.insecure_channel(tiny.grpc) as channel:
        model = ModelServiceStub(channel).GetModel(pb.GetModelRequest()).model
    with tiny.generation() as stub:
        if path in model.capabilities.fields:
            request = request_with(path, model.name)
            if path == "output.top_logprobs":  # which asks for nothing by itself
                request.output.logprobs = True
            assert stub.Generate(request).outputs
            return
        with pytest.raises(grpc.RpcError) as failed:
            stub.Generate(request_with(path, model.name))
    code, _, metadata = reason_of(failed.value)
    assert (code, metadata["field"]) == (grpc.StatusCode.INVALID_ARGUMENT, path)


def test_what_is_advertised_exists(tiny: Product) -> None:
    with grpc.insecure_channel(tiny.grpc) as channel:
        model = ModelServiceStub(channel).GetModel(pb.GetModelRequest()).model
    assert set(model.capabilities.fields) <= set(paths(pb.GenerateRequest.DESCRIPTOR))
