"""GetModel says what requests may ask for; here every field of GenerateRequest is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.struct_pb2 import Struct

from octavo.errors import Code, OctavoError
from octavo.rpc.status import error_from_rpc
from octavo.v1 import generation_pb2 as pb
from octavo.v1 import worker_pb2
from tests.gateway.conftest import System
from tests.gateway.fake_worker import say
from tests.gateway.waiting import until

_SAMPLES = {
    FieldDescriptor.CPPTYPE_STRING: "x",
    FieldDescriptor.CPPTYPE_BOOL: True,
    FieldDescriptor.CPPTYPE_DOUBLE: 0.5,
    FieldDescriptor.CPPTYPE_ENUM: 1,
}
_OTHER_SAMPLES = {"model": "tiny"}


def fields_of(descriptor: Descriptor, path: str = "") -> Iterator[str]:
    """The paths of all fields that hold no further fields of ours."""
    for field in descriptor.fields:
        inner = f"{path}.{field.name}" if path else field.name
        message = field.message_type
        if message is not None and has_fields_of_ours(message):
            yield from fields_of(message, inner)
        else:
            yield inner


def has_fields_of_ours(message: Descriptor) -> bool:
    """Whether it is a message of this package that is neither empty nor the entry of a map."""
    is_ours = message.file.package == "octavo.v1"
    return is_ours and bool(message.fields) and not message.GetOptions().map_entry


ALL_FIELDS = list(fields_of(pb.GenerateRequest.DESCRIPTOR))


def set_field(message: Any, path: str, sample: Any) -> None:
    """Sets the field at `path`, in the first item of each list on the way."""
    name, _, rest = path.partition(".")
    field = message.DESCRIPTOR.fields_by_name[name]
    if rest:
        inner = getattr(message, name)
        if field.is_repeated:
            inner = inner.add() if not inner else inner[0]
        set_field(inner, rest, sample)
    elif field.message_type is not None and field.message_type.GetOptions().map_entry:
        getattr(message, name)[1] = 0.5
    elif field.message_type is Struct.DESCRIPTOR:
        getattr(message, name).update({"x": 1})
    elif field.message_type is not None:
        getattr(message, name).SetInParent()
    elif field.is_repeated:
        getattr(message, name).append(sample)
    else:
        setattr(message, name, sample)


def request_with(path: str) -> pb.GenerateRequest:
    """A request that is right but for what `path` may do to it."""
    request = pb.GenerateRequest(stopping=pb.StoppingParameters(max_tokens=1))
    if path.startswith("chat."):
        request.chat.messages.add(role="user", content="x")
    elif not path.startswith(("prompt", "token_ids")):
        request.prompt = "x"
    if path == "output.top_logprobs":
        request.output.logprobs = True
    field = descriptor_of(path)
    set_field(request, path, _OTHER_SAMPLES.get(path, _SAMPLES.get(field.cpp_type, 1)))
    return request


def descriptor_of(path: str) -> FieldDescriptor:
    message = pb.GenerateRequest.DESCRIPTOR
    *folders, last = path.split(".")
    for name in folders:
        inner = message.fields_by_name[name].message_type
        assert inner is not None
        message = inner
    return message.fields_by_name[last]


async def refusal(system: System, request: pb.GenerateRequest) -> OctavoError | None:
    """Why the gateway refuses `request`, or None."""
    try:
        await system.stub.Generate(request)
    except grpc.aio.AioRpcError as raised:
        return error_from_rpc(raised)
    return None


def is_listed(path: str, listed: set[str]) -> bool:
    """A path that names a message stands for all that is in it."""
    parts = path.split(".")
    return any(".".join(parts[: n + 1]) in listed for n in range(len(parts)))


async def test_what_is_listed_is_accepted_and_all_else_refused_by_name(system: System) -> None:
    system.worker.reply = say("x")
    model = (await system.models.GetModel(pb.GetModelRequest())).model
    listed = set(model.capabilities.fields)
    accepted = []
    for path in ALL_FIELDS:
        error = await refusal(system, request_with(path))
        if error is None:
            accepted.append(path)
            continue
        assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "UNSUPPORTED_FIELD"), path
        named = error.metadata["field"]
        assert path == named or path.startswith(f"{named}."), (path, named)
    assert accepted == [path for path in ALL_FIELDS if is_listed(path, listed)]
    assert all(any(is_listed(path, {entry}) for path in ALL_FIELDS) for entry in listed)


async def test_the_walk_sees_the_fields_of_all_depths() -> None:
    assert {"prompt", "sampling.logit_bias", "chat.messages.tool_calls.id"} <= set(ALL_FIELDS)
    assert "constraint.choice.texts" in ALL_FIELDS
    assert len(ALL_FIELDS) > 45


async def test_limits_are_as_advertised(system: System) -> None:
    system.worker.reply = say("x")
    limits = (await system.models.GetModel(pb.GetModelRequest())).model.capabilities

    async def is_accepted(**fields: Any) -> bool:
        error = await refusal(system, pb.GenerateRequest(**{"prompt": "x", **fields}))
        return error is None or error.code is not Code.INVALID_ARGUMENT

    async def bound(ask: Any, limit: int) -> None:
        assert await is_accepted(**ask(limit))
        assert not await is_accepted(**ask(limit + 1))

    await bound(lambda n: {"sampling": {"n": n}}, limits.max_outputs)
    await bound(lambda n: {"stopping": {"stop": ["z"] * n}}, limits.max_stop_texts)
    await bound(lambda n: {"stopping": {"stop": ["z" * n]}}, limits.max_stop_text_bytes)
    await bound(lambda n: {"stopping": {"stop_token_ids": [7] * n}}, limits.max_stop_token_ids)
    await bound(
        lambda n: {"stopping": {"stop_token_sequences": [{"ids": [7]}] * n}},
        limits.max_stop_token_sequences,
    )
    await bound(
        lambda n: {"stopping": {"stop_token_sequences": [{"ids": [7] * n}]}},
        limits.max_stop_sequence_tokens,
    )
    await bound(lambda n: {"sampling": {"bad_words": ["z"] * n}}, limits.max_bad_words)
    await bound(lambda n: {"sampling": {"bad_words": ["z" * n]}}, limits.max_bad_word_bytes)
    await bound(
        lambda n: {"sampling": {"allowed_token_ids": [7] * n}}, limits.max_allowed_token_ids
    )
    await bound(lambda n: {"sampling": {"no_repeat_ngram": n}}, limits.max_no_repeat_ngram)
    await bound(
        lambda n: {"output": {"logprobs": True, "top_logprobs": n}}, limits.max_top_logprobs
    )
    assert not await is_accepted(prompt="x" * (limits.max_prompt_bytes + 1))
    too_many = dict.fromkeys(range(limits.max_logit_bias_tokens + 1), 1.0)
    asked = pb.GenerateRequest(prompt="x", sampling=pb.SamplingParameters(logit_bias=too_many))
    error = await refusal(system, asked)
    assert error is not None
    assert error.metadata["limit"] == f"at most {limits.max_logit_bias_tokens} token ids"


async def test_a_model_describes_itself(system: System) -> None:
    model = (await system.models.GetModel(pb.GetModelRequest(model="tiny"))).model
    assert (model.name, model.max_context_tokens, model.vocabulary_size) == ("tiny", 4_096, 300)
    assert (list(model.eos_token_ids), model.chat, model.ready) == ([256], True, True)
    assert (model.defaults.temperature, model.defaults.top_p, model.defaults.top_k) == (1, 1, 0)
    assert model.created_at_s > 0
    listed = await system.models.ListModels(pb.ListModelsRequest())
    assert list(listed.models) == [model]
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await system.models.GetModel(pb.GetModelRequest(model="huge"))
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_model_without_a_worker_is_known_but_not_ready(system: System) -> None:
    await system.worker.kill()
    await until(lambda: not system.gateway.generation.is_ready())
    model = (await system.models.GetModel(pb.GetModelRequest())).model
    assert (model.name, model.ready) == ("tiny", False)


async def test_defaults_of_the_checkpoint_are_reported_and_used(system: System) -> None:
    await system.worker.kill()
    system.worker.defaults = worker_pb2.WorkerDefaults(temperature=0.25, top_k=50)
    await until(lambda: not system.gateway.generation.is_ready())
    await system.worker.start()
    await until(system.gateway.generation.is_ready)
    defaults = (await system.models.GetModel(pb.GetModelRequest())).model.defaults
    assert (defaults.temperature, defaults.top_p, defaults.top_k) == (0.25, 1.0, 50)
    await system.stub.Generate(
        pb.GenerateRequest(prompt="x", stopping=pb.StoppingParameters(max_tokens=1))
    )
    sampling = system.worker.submits[-1].sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.25, 1.0, 50)
