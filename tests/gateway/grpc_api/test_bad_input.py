"""Whatever comes over gRPC: a clear refusal that names the field, and never a fault of ours."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from octavo.errors import OctavoError
from octavo.rpc.status import error_from_rpc
from octavo.v1 import generation_pb2 as pb
from tests.gateway.conftest import System
from tests.gateway.fake_worker import say
from tests.gateway.grpc_api.extreme_messages import FLOATS, INTEGERS, messages
from tests.gateway.grpc_api.test_model_service import (
    ALL_FIELDS,
    descriptor_of,
    request_with,
    set_field,
)

SERVICES = pb.DESCRIPTOR.services_by_name
METHODS = [method for service in SERVICES.values() for method in service.methods]
UNARY = [method for method in METHODS if not method.client_streaming]
OTHERS = ["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"]
OTHERS += ["/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"]
OTHERS += ["/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"]
# What a request that is right may still end with: it names another model.
FINE = {grpc.StatusCode.OK, grpc.StatusCode.NOT_FOUND}

EXTREMES: dict[int, list[Any]] = {FieldDescriptor.CPPTYPE_DOUBLE: [*FLOATS], **INTEGERS}
NUMBERS = [path for path in ALL_FIELDS if descriptor_of(path).cpp_type in EXTREMES]
# Each value of these types is one that the field takes.
TAKE_ALL = {"sampling.top_k", "sampling.seed", "stopping.max_tokens", "stopping.min_tokens"}
TAKE_ALL |= {"priority"}

CALL_S = 10.0

many = settings(
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(autouse=True)
def nothing_at_error_level(
    system: System, caplog: pytest.LogCaptureFixture
) -> Iterator[None]:  # after the system is there, and until before it ends
    """Bad input is the client's fault, and no reason to wake anybody."""
    with capture_logs() as logs:
        yield
    assert [line for line in logs if line["log_level"] in ("error", "critical")] == []
    assert [
        record for record in caplog.get_records("call") if record.levelno >= logging.ERROR
    ] == []


@pytest.fixture(autouse=True)
def short_answers(system: System) -> None:
    system.worker.reply = say("x")
    system.worker.longest_output = 3


async def status_of(call: Any) -> tuple[grpc.StatusCode, OctavoError | None]:
    """How a call ends, whatever comes before."""
    try:
        if hasattr(call, "read"):
            while await call.read() is not grpc.aio.EOF:
                pass
        else:
            await call
    except grpc.aio.AioRpcError as raised:
        return raised.code(), error_from_rpc(raised)
    return grpc.StatusCode.OK, None


def call_of(system: System, path: str, data: bytes, *, streams: tuple[bool, bool]) -> Any:
    """A call with these bytes as its only message."""
    client_streams, server_streams = streams
    kind = ("stream" if client_streams else "unary", "stream" if server_streams else "unary")
    method = getattr(system.channel, "_".join(kind))(path)
    return method(_once(data) if client_streams else data, timeout=CALL_S)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


def path_of(method: Any) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


def assert_is_clear(code: grpc.StatusCode, error: OctavoError | None, message: object) -> None:
    """Right, or refused by the name of a field."""
    if code in FINE:
        return
    assert error is not None
    assert code is grpc.StatusCode.INVALID_ARGUMENT, (code, error.message, message)
    expected = {"field", "value", "limit"} if error.reason == "INVALID_FIELD" else {"field"}
    assert error.reason in ("INVALID_FIELD", "UNSUPPORTED_FIELD"), (error.reason, message)
    assert error.metadata.keys() == expected
    assert error.metadata["field"] in error.message
    assert len(error.message) < 400


@pytest.mark.parametrize("path", NUMBERS)
async def test_every_number_at_its_extremes(system: System, path: str) -> None:
    field = descriptor_of(path)
    num_refused = 0
    for value in EXTREMES[field.cpp_type]:
        request = request_with(path)
        set_field(request, path, value)
        code, error = await status_of(system.stub.Generate(request, timeout=CALL_S))
        assert_is_clear(code, error, request)
        if error is not None and code is grpc.StatusCode.INVALID_ARGUMENT:
            num_refused += 1
            named = error.metadata["field"]  # a whole message, where that is not supported
            assert named.startswith(path.partition(".ids")[0]) or path.startswith(f"{named}.")
    assert num_refused or path in TAKE_ALL


@many
@given(data=st.data())
async def test_any_fields_get_an_answer_or_a_named_refusal(
    system: System, data: st.DataObject
) -> None:
    method = data.draw(st.sampled_from(UNARY))
    message = data.draw(messages(method.input_type))
    streams = (False, method.server_streaming)
    call = call_of(system, path_of(method), message.SerializeToString(), streams=streams)
    assert_is_clear(*await status_of(call), message)


@many
@given(message=messages(pb.GenerateRequest.DESCRIPTOR))
async def test_any_generation_of_a_session_does_too(
    system: System, message: pb.GenerateRequest
) -> None:
    call = system.stub.OpenSession(timeout=5)
    await call.write(pb.OpenSessionRequest(key=1, open=message))
    await call.write(pb.OpenSessionRequest(key=2, open=pb.GenerateRequest(prompt="x")))
    ended: dict[int, pb.OpenSessionResponse] = {}
    while len(ended) < 2:
        response = await call.read()
        assert isinstance(response, pb.OpenSessionResponse)
        if response.WhichOneof("event") in ("usage", "error"):
            ended[response.key] = response
    assert ended[2].HasField("usage")
    if ended[1].HasField("error"):
        error = ended[1].error
        assert error.code in (pb.ERROR_CODE_INVALID_ARGUMENT, pb.ERROR_CODE_NOT_FOUND)
        assert error.metadata["field"]
    call.cancel()


@many
@given(data=st.data())
async def test_bytes_that_are_almost_a_message(system: System, data: st.DataObject) -> None:
    method = data.draw(st.sampled_from(UNARY))
    whole = bytearray(data.draw(messages(method.input_type)).SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        if whole:
            whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    call = call_of(system, path_of(method), cut, streams=(False, method.server_streaming))
    code, error = await status_of(call)
    if error is None or error.reason != "UNDECODABLE_MESSAGE":
        assert_is_clear(code, error, cut)


@pytest.mark.parametrize("path", [*map(path_of, METHODS), *OTHERS])
async def test_what_is_no_message_is_an_invalid_argument(system: System, path: str) -> None:
    streams = {"OpenSession": (True, True), "StreamGenerate": (False, True), "Watch": (False, True)}
    streams["ServerReflectionInfo"] = (True, True)
    kind = streams.get(path.rpartition("/")[2], (False, False))
    for data in (b"\xff" * 20, b"\x0a\x05ab"):
        code, error = await status_of(call_of(system, path, data, streams=kind))
        assert error is not None
        assert (code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "UNDECODABLE_MESSAGE")


async def test_text_that_is_no_unicode_is_no_message(system: System) -> None:
    for bad in (b"\xff\xfe", b"\xed\xa0\x80", b"\xc3"):  # the second one is a lone surrogate
        data = b"\x1a" + bytes([len(bad)]) + bad
        call = call_of(system, path_of(UNARY[0]), data, streams=(False, False))
        code, error = await status_of(call)
        assert error is not None and error.reason == "UNDECODABLE_MESSAGE", code


@pytest.mark.parametrize("depth", [40, 5_000])
async def test_deep_template_arguments(system: System, depth: int) -> None:
    value: bytes = b""
    for _ in range(depth):  # a list in a list, written by hand: no library nests so deep
        items = b"\x0a" + _length(value) + value
        value = b"\x32" + _length(items) + items
    entry = b"\x0a\x01a\x12" + _length(value) + value
    struct = b"\x0a" + _length(entry) + entry
    arguments = b"\x22" + _length(struct) + struct
    chat = pb.ChatInput(messages=[pb.ChatMessage(role="user", content="x")]).SerializeToString()
    chat += arguments
    data = b"\x2a" + _length(chat) + chat
    code, error = await status_of(call_of(system, path_of(UNARY[0]), data, streams=(False, False)))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert error is not None
    assert error.reason in ("INVALID_FIELD", "UNDECODABLE_MESSAGE")


def _length(data: bytes) -> bytes:
    number, encoded = len(data), bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


@pytest.mark.parametrize(
    "request_",
    [
        pb.GenerateRequest(prompt="é" * 5_000_000),
        pb.GenerateRequest(token_ids=pb.TokenIds(ids=[7] * 1_000_000)),
        pb.GenerateRequest(chat=pb.ChatInput(messages=[pb.ChatMessage(role="user")] * 100_000)),
        pb.GenerateRequest(
            chat=pb.ChatInput(messages=[pb.ChatMessage(role="user", content="x" * 10_000_000)])
        ),
        pb.GenerateRequest(
            prompt="x", sampling=pb.SamplingParameters(allowed_token_ids=[1] * 1_000_000)
        ),
        pb.GenerateRequest(prompt="x", stopping=pb.StoppingParameters(stop=["x"] * 100_000)),
        pb.GenerateRequest(prompt="x", stopping=pb.StoppingParameters(stop=["x" * 10**6])),
        pb.GenerateRequest(
            prompt="x", sampling=pb.SamplingParameters(logit_bias=dict.fromkeys(range(10**5), 1.0))
        ),
    ],
    ids=["prompt", "ids", "messages", "content", "allowed", "stops", "stop", "bias"],
)
async def test_what_is_far_too_large_is_refused_before_anything_is_done_with_it(
    system: System, request_: pb.GenerateRequest
) -> None:
    data = request_.SerializeToString()
    method = path_of(UNARY[0])
    code, error = await status_of(call_of(system, method, data, streams=(False, False)))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert error is not None and error.reason == "INVALID_FIELD"
    assert system.tokenizer.calls == []


async def test_what_grpc_itself_refuses_leaves_the_connection_usable(system: System) -> None:
    async def is_usable() -> bool:
        return bool((await system.stub.Generate(pb.GenerateRequest(prompt="x"))).outputs)

    assert await is_usable()
    data = b"x" * (33 * 1024 * 1024)
    code, _ = await status_of(call_of(system, path_of(UNARY[0]), data, streams=(False, False)))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await is_usable()
    metadata = (("x-long", "x" * 20 * 1024),)
    call = system.stub.Generate(pb.GenerateRequest(prompt="x"), metadata=metadata)
    code, _ = await status_of(call)
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await is_usable()
    metadata = (("x-long", "x" * 6 * 1024),)
    assert (await system.stub.Generate(pb.GenerateRequest(prompt="x"), metadata=metadata)).outputs
