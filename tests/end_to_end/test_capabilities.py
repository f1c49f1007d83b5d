"""What GetModel lists is accepted by the running product, and nothing else is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
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
}
WHOLE_MESSAGES = ("token_ids", "chat.template_arguments", "chat.tool_choice", "constraint")


def paths(descriptor: Any, prefix: str = "") -> Iterator[str]:
    """The paths of all fields below a message, repeated messages and oneofs of messages whole."""
    for field in descriptor.fields:
        path = prefix + field.name
        repeated = getattr(field, "is_repeated", False)
        if field.message_type is None or repeated or path in WHOLE_MESSAGES:
            yield path
        else:
            yield from paths(field.message_type, path + ".")


def set_field(request: pb.GenerateRequest, path: str, model: str) -> None:
    message: Any = request
    *parents, name = path.split(".")
    for parent in parents:
        message = getattr(message, parent)
    field = message.DESCRIPTOR.fields_by_name[name]
    if path == "model":
        request.model = model
    elif path == "chat.messages":
        message.messages.add(role="user", content="Hello")
    elif path == "chat.tools":
        message.tools.add(name="f", description="d", parameters_schema="{}")
    elif path == "chat.tool_choice":
        message.tool_choice.mode = pb.TOOL_CHOICE_MODE_NONE
    elif path == "chat.template_arguments":
        message.template_arguments["x"] = 1
    elif path == "token_ids":
        message.token_ids.ids.extend([5, 6])
    elif path == "constraint":
        message.constraint.regex = "a"
    elif field.message_type is not None and field.message_type.GetOptions().map_entry:
        getattr(message, name)[5] = 1.0
    elif getattr(field, "is_repeated", False):
        getattr(message, name).extend(VALUES.get(path, [5]))
    else:
        whole = 1 if field.type != FieldDescriptor.TYPE_STRING else "x"
        setattr(message, name, VALUES.get(path, whole))


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
            assert stub.Generate(request_with(path, model.name)).outputs
            return
        with pytest.raises(grpc.RpcError) as failed:
            stub.Generate(request_with(path, model.name))
    code, _, metadata = reason_of(failed.value)
    assert (code, metadata["field"]) == (grpc.StatusCode.INVALID_ARGUMENT, path)


def test_what_is_advertised_exists(tiny: Product) -> None:
    with grpc.insecure_channel(tiny.grpc) as channel:
        model = ModelServiceStub(channel).GetModel(pb.GetModelRequest()).model
    assert set(model.capabilities.fields) <= set(paths(pb.GenerateRequest.DESCRIPTOR))
