"""octavo.rpc: the server, its health and reflection, and errors as they cross the wire."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from octavo.errors import (
    InternalError,
    InvalidArgumentError,
    OctavoError,
    ResourceExhaustedError,
    invalid_field,
)
from octavo.rpc.channel import open_channel
from octavo.rpc.server import AddressInUseError, RpcServer
from octavo.rpc.status import error_from_rpc
from octavo.v1 import tokenizer_pb2, tokenizer_pb2_grpc

SERVICE = "octavo.v1.TokenizerService"


class FailingTokenizer(tokenizer_pb2_grpc.TokenizerServiceServicer):
    """Fails in every way that a handler can."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()
        self.peers: set[str] = set()

    async def GetTokenizer(self, request: Any, context: Any) -> Any:
        raise invalid_field("texts", 3, "a list")

    async def Encode(self, request: Any, context: Any) -> Any:
        raise ValueError("a secret of the server")

    async def Decode(self, request: Any, context: Any) -> Any:
        raise ResourceExhaustedError("full", reason="QUEUE_FULL", retry_delay_ms=1500)

    async def RenderChat(self, request: Any, context: Any) -> Any:
        self.peers.add(context.peer())
        return tokenizer_pb2.RenderChatResponse(text="fine")

    async def StreamDecode(self, request_iterator: Any, context: Any) -> Any:
        try:
            async for _ in request_iterator:
                yield tokenizer_pb2.StreamDecodeResponse()
        finally:
            self.closed.set()


def server_of(
    servicer: FailingTokenizer, address: str = "127.0.0.1:0", **options: Any
) -> RpcServer:
    return RpcServer(
        address=address,
        **options,
        services={
            SERVICE: lambda server: tokenizer_pb2_grpc.add_TokenizerServiceServicer_to_server(
                servicer, server
            )
        },
    )


@asynccontextmanager
async def serving(servicer: FailingTokenizer) -> AsyncIterator[tuple[RpcServer, grpc.aio.Channel]]:
    server = server_of(servicer)
    port = await server.start()
    async with open_channel(f"127.0.0.1:{port}") as channel:
        yield server, channel
    await server.stop(0)


async def failure(call: Any) -> OctavoError:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call
    return error_from_rpc(failed.value)


async def test_an_error_keeps_code_reason_metadata_and_delay() -> None:
    async with serving(FailingTokenizer()) as (_, channel):
        stub = tokenizer_pb2_grpc.TokenizerServiceStub(channel)
        invalid = await failure(stub.GetTokenizer(tokenizer_pb2.GetTokenizerRequest()))
        assert isinstance(invalid, InvalidArgumentError)
        assert invalid.metadata == {"field": "texts", "value": "3", "limit": "a list"}
        full = await failure(stub.Decode(tokenizer_pb2.DecodeRequest()))
        assert isinstance(full, ResourceExhaustedError)
        assert (full.reason, full.retry_delay_ms) == ("QUEUE_FULL", 1500)


async def test_a_bug_is_internal_and_keeps_its_text_to_itself() -> None:
    async with serving(FailingTokenizer()) as (_, channel):
        stub = tokenizer_pb2_grpc.TokenizerServiceStub(channel)
        error = await failure(stub.Encode(tokenizer_pb2.EncodeRequest()))
        assert isinstance(error, InternalError)
        assert "secret" not in error.message
        answer = await stub.RenderChat(tokenizer_pb2.RenderChatRequest())
        assert answer.text == "fine"


async def test_bytes_that_are_no_message_are_invalid() -> None:
    async with serving(FailingTokenizer()) as (_, channel):
        unary: Any = channel.unary_unary(f"/{SERVICE}/Encode")
        error = await failure(unary(b"\xff\xff\xff"))
        assert (type(error), error.reason) == (InvalidArgumentError, "UNDECODABLE_MESSAGE")
        opener: Any = channel.stream_stream(f"/{SERVICE}/StreamDecode")
        stream = opener()
        await stream.write(b"")
        assert await stream.read() == b""
        await stream.write(b"\xff\xff\xff")
        error = await failure(stream.read())
        assert (type(error), error.reason) == (InvalidArgumentError, "UNDECODABLE_MESSAGE")


async def test_an_unknown_method_is_unimplemented() -> None:
    async with serving(FailingTokenizer()) as (_, channel):
        unary: Any = channel.unary_unary(f"/{SERVICE}/Nothing")
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await unary(b"")
        assert failed.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_an_oversize_message_leaves_the_connection_usable() -> None:
    async with serving(FailingTokenizer()) as (_, channel):
        stub = tokenizer_pb2_grpc.TokenizerServiceStub(channel)
        request = tokenizer_pb2.EncodeRequest(texts=["x" * (33 * 2**20)])
        error = await failure(stub.Encode(request))
        assert isinstance(error, ResourceExhaustedError)
        assert (await stub.RenderChat(tokenizer_pb2.RenderChatRequest())).text == "fine"


async def test_a_handler_is_closed_when_its_client_is_gone() -> None:
    servicer = FailingTokenizer()
    async with serving(servicer) as (_, channel):
        call = tokenizer_pb2_grpc.TokenizerServiceStub(channel).StreamDecode()
        await call.write(tokenizer_pb2.StreamDecodeRequest())
        await call.read()
        call.cancel()
        await asyncio.wait_for(servicer.closed.wait(), 5)


async def test_a_busy_address_is_one_clear_error() -> None:
    first = server_of(FailingTokenizer())
    address = f"127.0.0.1:{await first.start()}"
    with pytest.raises(AddressInUseError, match=address):
        await server_of(FailingTokenizer(), address).start()
    await first.stop(0)


async def test_health_follows_and_is_watched() -> None:
    async with serving(FailingTokenizer()) as (server, channel):
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        states = [(await watch.read()).status]
        await server.set_serving(True)
        states.append((await watch.read()).status)
        await server.set_serving(False)
        states.append((await watch.read()).status)
        answer = health_pb2.HealthCheckResponse
        assert states == [answer.NOT_SERVING, answer.SERVING, answer.NOT_SERVING]
        watch.cancel()


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_names_and_describes_the_service(version: str) -> None:
    async with serving(FailingTokenizer()) as (_, channel):
        method: Any = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        call = method()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        answer = await call.read()
        assert SERVICE in [service.name for service in answer.list_services_response.service]
        await call.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE))
        answer = await call.read()
        assert answer.file_descriptor_response.file_descriptor_proto
        call.cancel()


@pytest.mark.slow
async def test_a_silent_stream_of_a_client_that_pings_every_second_stays_open() -> None:
    async with serving(FailingTokenizer()) as (_, channel):
        call = tokenizer_pb2_grpc.TokenizerServiceStub(channel).StreamDecode()
        await call.write(tokenizer_pb2.StreamDecodeRequest())
        await call.read()
        reading = asyncio.ensure_future(call.read())
        done, _ = await asyncio.wait([reading], timeout=4)  # a default server ends it after 3 s
        assert not done
        reading.cancel()


async def test_a_connection_that_never_says_what_it_wants_is_closed() -> None:
    server = server_of(FailingTokenizer(), handshake_limit_s=0.2)
    port = await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(10):
        while await reader.read(1024):  # the server's own settings come first
            pass
    writer.close()
    await server.stop(0)


async def test_an_old_connection_is_replaced_and_its_open_calls_go_on() -> None:
    servicer = FailingTokenizer()
    server = server_of(servicer, max_connection_age_s=0.3)
    port = await server.start()
    async with open_channel(f"127.0.0.1:{port}") as channel:
        stub = tokenizer_pb2_grpc.TokenizerServiceStub(channel)
        stream = stub.StreamDecode()
        await stream.write(tokenizer_pb2.StreamDecodeRequest())
        await stream.read()
        async with asyncio.timeout(10):
            while len(servicer.peers) < 2:
                await stub.RenderChat(tokenizer_pb2.RenderChatRequest())
        await stream.write(tokenizer_pb2.StreamDecodeRequest())
        assert isinstance(await stream.read(), tokenizer_pb2.StreamDecodeResponse)
        stream.cancel()
    await server.stop(0)
