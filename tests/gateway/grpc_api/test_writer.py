"""A client that does not read loses its call, and the generation behind it ends at once."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest

from gateway.grpc_api.writer import Writer
from octavo.errors import ResourceExhaustedError
from octavo.rpc.call_log import logged_call
from octavo.rpc.interceptors import HandlerInterceptor
from octavo.rpc.status import error_from_rpc


async def read_all(call: Any) -> None:
    while await call.read() is not grpc.aio.EOF:
        pass


async def test_a_write_that_is_taken_is_no_stall() -> None:
    written: list[str] = []

    async def write(response: str) -> None:
        written.append(response)

    await Writer(write, 0.01).write("one")
    assert written == ["one"]


async def test_a_write_that_waits_for_longer_than_the_limit_names_the_limit() -> None:
    async def never(response: str) -> None:
        await asyncio.Event().wait()

    with pytest.raises(ResourceExhaustedError) as raised:
        await Writer(never, 0.01).write("one")
    assert (raised.value.reason, raised.value.metadata) == ("SLOW_READER", {"limit": "0.01 s"})


async def test_on_a_socket_the_work_ends_although_the_client_reads_nothing() -> None:
    freed = asyncio.Event()

    async def endless(request: bytes, context: Any) -> None:
        try:
            while True:
                await Writer(context.write, 0.1).write(bytes(100_000))
        finally:
            freed.set()

    handler: Any = grpc.unary_stream_rpc_method_handler(endless)
    server = grpc.aio.server(interceptors=(HandlerInterceptor((), logged_call),))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("s.S", {"M": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub: Any = channel.unary_stream("/s.S/M")
            call = stub(b"")
            await asyncio.wait_for(freed.wait(), 10)
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await read_all(call)  # whenever it reads on
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert error_from_rpc(raised.value).reason == "SLOW_READER"
    finally:
        await server.stop(0)
