"""octavo.rpc.call_log: calls bring a request id, which each line that they cause carries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import pytest
import structlog

from octavo.errors import invalid_field
from octavo.rpc.channel import open_channel
from octavo.rpc.request_id import bind_request_id, request_id_metadata
from octavo.rpc.server import RpcServer
from octavo.v1 import tokenizer_pb2 as pb
from octavo.v1 import tokenizer_pb2_grpc

SERVICE = "octavo.v1.TokenizerService"

Lines = list[MutableMapping[str, Any]]


class Tokenizer(tokenizer_pb2_grpc.TokenizerServiceServicer):
    """Answers, refuses, breaks, and waits."""

    def __init__(self) -> None:
        self.waiting = asyncio.Event()

    async def GetTokenizer(self, request: Any, context: Any) -> Any:
        return pb.GetTokenizerResponse()

    async def Encode(self, request: Any, context: Any) -> Any:
        raise invalid_field("texts", 3, "a list")

    async def Decode(self, request: Any, context: Any) -> Any:
        raise ZeroDivisionError

    async def RenderChat(self, request: Any, context: Any) -> Any:
        self.waiting.set()
        await asyncio.Event().wait()

    async def StreamDecode(self, request_iterator: Any, context: Any) -> Any:
        async for _ in request_iterator:
            yield pb.StreamDecodeResponse()


@pytest.fixture
def lines() -> Lines:
    """What is logged, with the context that it is logged in."""
    return []


@asynccontextmanager
async def serving(
    lines: Lines, servicer: Tokenizer | None = None
) -> AsyncIterator[tokenizer_pb2_grpc.TokenizerServiceAsyncStub]:
    register = tokenizer_pb2_grpc.add_TokenizerServiceServicer_to_server
    service = servicer or Tokenizer()
    server = RpcServer(address="127.0.0.1:0", services={SERVICE: lambda on: register(service, on)})
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as captured:
        port = await server.start()
        async with open_channel(f"127.0.0.1:{port}") as channel:
            yield tokenizer_pb2_grpc.TokenizerServiceStub(channel)
        await server.stop(0)
    lines += captured


async def test_an_answer_is_a_debug_line_with_the_callers_id(lines: Lines) -> None:
    async with serving(lines) as stub:
        metadata = (("x-request-id", "abc"),)
        await stub.GetTokenizer(pb.GetTokenizerRequest(), metadata=metadata)
        await stub.GetTokenizer(pb.GetTokenizerRequest())
    first, second = lines
    assert (first["event"], first["log_level"]) == ("call answered", "debug")
    assert (first["request_id"], first["method"]) == ("abc", f"/{SERVICE}/GetTokenizer")
    assert "request_id" not in second


async def test_a_refusal_is_an_info_line_and_a_fault_an_error_line(lines: Lines) -> None:
    async with serving(lines) as stub:
        metadata = (("x-request-id", "abc"),)
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Encode(pb.EncodeRequest(), metadata=metadata)
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Decode(pb.DecodeRequest(), metadata=metadata)
    refused, broken = lines
    assert (refused["log_level"], refused["reason"]) == ("info", "INVALID_FIELD")
    assert (broken["log_level"], broken["event"]) == ("error", "handler failed")
    assert {line["request_id"] for line in lines} == {"abc"}


async def test_a_cancel_is_a_debug_line(lines: Lines) -> None:
    servicer = Tokenizer()
    async with serving(lines, servicer) as stub:
        call = stub.RenderChat(pb.RenderChatRequest())
        await servicer.waiting.wait()
        call.cancel()
    (line,) = lines
    assert (line["event"], line["log_level"]) == ("call cancelled", "debug")


async def test_the_id_that_is_bound_goes_on_with_calls() -> None:
    assert request_id_metadata() == ()
    bind_request_id("x" * 200)
    assert request_id_metadata() == (("x-request-id", "x" * 128),)
