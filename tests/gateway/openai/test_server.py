"""What only a socket shows: clients that vanish, trickle, stall or send too much; closing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from typing import Any

import pytest

from gateway.events import Delta
from gateway.openai.limits import HttpLimits
from gateway.openai.server import HttpServer, serve_http
from octavo.rpc.server import AddressInUseError
from tests.gateway.openai.conftest import door
from tests.gateway.openai.fake_generation import FakeGeneration, Step, accepted
from tests.gateway.waiting import until

CHAT = {"messages": [{"role": "user", "content": "a"}]}
HOST = "127.0.0.1"


def endless() -> list[Step]:
    """Says one thing, then nothing for ever."""
    return [accepted(), Delta(output_index=0, text="a"), asyncio.Event().wait()]


def post(body: bytes, length: int | None = None, path: str = "/v1/chat/completions") -> bytes:
    length = len(body) if length is None else length
    head = f"POST {path} HTTP/1.1\r\nhost: door\r\ncontent-length: {length}\r\n\r\n"
    return head.encode() + body


async def connect(
    server: HttpServer, sent: bytes
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(HOST, server.port)
    writer.write(sent)
    return reader, writer


def chat(**fields: Any) -> bytes:
    return post(json.dumps({**CHAT, **fields}).encode())


@pytest.mark.parametrize("abort", [True, False], ids=["reset", "closed"])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_goes_ends_its_generation(
    server: HttpServer, generation: FakeGeneration, stream: bool, abort: bool
) -> None:
    generation.answer = lambda _: endless()
    reader, writer = await connect(server, chat(stream=stream))
    await until(lambda: generation.num_open == 1)
    if stream:
        await reader.readuntil(b'"content":"a"')
    writer.transport.abort() if abort else writer.close()
    gone_at = time.monotonic()
    await until(lambda: generation.num_open == 0)
    assert time.monotonic() - gone_at < 0.5


async def test_a_client_that_goes_ends_all_its_prompts(
    server: HttpServer, generation: FakeGeneration
) -> None:
    generation.answer = lambda _: endless()
    body = json.dumps({"prompt": ["a", "b", "c"], "stream": True}).encode()
    _, writer = await connect(server, post(body, path="/v1/completions"))
    await until(lambda: generation.num_open == 3)
    writer.close()
    await until(lambda: generation.num_open == 0)


async def test_a_client_that_goes_while_it_sends(
    server: HttpServer, generation: FakeGeneration
) -> None:
    _, writer = await connect(server, post(b"{", length=100))
    writer.close()
    reader, writer = await connect(server, b"GET /health HTTP/1.1\r\nhost: door\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.close()
    assert not generation.requests


async def test_a_body_that_trickles(server: HttpServer) -> None:
    reader, writer = await connect(server, post(b"{", length=100))
    answer = await asyncio.wait_for(reader.read(), 5)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b'"code":"body_timeout"' in answer
    writer.close()


async def test_a_body_without_a_length(server: HttpServer) -> None:
    head = b"POST /v1/completions HTTP/1.1\r\nhost: door\r\ntransfer-encoding: chunked\r\n\r\n"
    reader, writer = await connect(server, head)
    for _ in range(25):
        writer.write(b"3E8\r\n" + b" " * 1000 + b"\r\n")
    answer = await asyncio.wait_for(reader.read(), 5)
    assert answer.startswith(b"HTTP/1.1 413")
    writer.close()


async def test_headers_without_end(server: HttpServer) -> None:
    many = b"".join(b"x-%d: y\r\n" % index for index in range(20_000))
    reader, writer = await connect(server, b"GET /health HTTP/1.1\r\nhost: door\r\n" + many)
    answer = await asyncio.wait_for(reader.read(), 5)
    assert answer.startswith(b"HTTP/1.1 431")
    writer.close()


async def test_one_header_without_end(server: HttpServer) -> None:
    reader, writer = await connect(server, b"GET /health HTTP/1.1\r\nhost: door\r\nx-a: ")
    answer = asyncio.create_task(asyncio.wait_for(reader.read(), 5))
    with contextlib.suppress(ConnectionError):
        for _ in range(800):
            writer.write(b"x" * 65_536)
            await writer.drain()
    with contextlib.suppress(ConnectionError):  # cut off while it sends
        assert (await answer).startswith(b"HTTP/1.1 431")
    writer.close()


async def test_a_length_over_the_limit_is_refused_before_the_body(server: HttpServer) -> None:
    reader, writer = await connect(server, post(b"", length=200_000_000))
    answer = await asyncio.wait_for(reader.read(), 5)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in answer
    writer.close()


async def test_a_body_in_crumbs(generation: FakeGeneration) -> None:
    server = await serve(generation, max_body_pieces=50)
    head = b"POST /v1/completions HTTP/1.1\r\nhost: door\r\ntransfer-encoding: chunked\r\n\r\n"
    for num_pieces, status in ((40, b"HTTP/1.1 400"), (60, b"HTTP/1.1 413")):
        reader, writer = await connect(server, head)
        writer.write(b"1\r\n \r\n" * num_pieces + b"0\r\n\r\n")
        answer = await asyncio.wait_for(reader.readuntil(b"}"), 5)
        assert answer.startswith(status)
        writer.close()
    await server.close(grace_s=1)


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + b"\x00" * 100 + b"\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /health HTTP/1.1\r\nhost: door\r\ncontent-length: -5\r\n\r\n",
        b"POST /health HTTP/1.1\r\nhost: d\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        b"GET /health\x00 HTTP/1.1\r\nhost: door\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: door\r\nx y: z\r\n\r\n",
    ],
    ids=["tls", "http2", "negative", "lengths", "path", "name"],
)
async def test_what_is_no_http_is_closed_and_others_are_served(
    server: HttpServer, sent: bytes
) -> None:
    reader, writer = await connect(server, sent)
    answer = await asyncio.wait_for(reader.read(), 5)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400")
    writer.close()
    reader, writer = await connect(server, b"GET /health HTTP/1.1\r\nhost: door\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.close()


@pytest.mark.slow
async def test_headers_that_trickle(server: HttpServer) -> None:
    reader, writer = await connect(server, b"GET /health HTTP/1.1\r\nhost: door\r\n")
    assert await asyncio.wait_for(reader.read(), 11) == b""
    writer.close()


async def serve(generation: FakeGeneration, **limits: float) -> HttpServer:
    settings: dict[str, Any] = limits
    return await serve_http(door(generation, limits=HttpLimits(**settings)), HOST, 0)


async def test_a_long_wait_is_filled_with_pings(generation: FakeGeneration) -> None:
    go_on = asyncio.Event()
    generation.answer = lambda _: [go_on.wait(), accepted(), Delta(output_index=0, text="a")]
    server = await serve(generation, ping_interval_s=0.02)
    reader, writer = await connect(server, chat(stream=True))
    await reader.readuntil(b": ping\n\n")
    await reader.readuntil(b": ping\n\n")
    go_on.set()
    await reader.readuntil(b"data: [DONE]\n\n")
    writer.close()
    await server.close(grace_s=1)


async def test_a_client_that_does_not_read_is_dropped(generation: FakeGeneration) -> None:
    flood = Delta(output_index=0, text="x" * 100_000)
    generation.answer = lambda _: [accepted(), *[flood] * 1_000]
    server = await serve(generation, stall_limit_s=0.1)
    reader, writer = await connect(server, chat(stream=True))
    await until(lambda: generation.num_open == 1)
    await until(lambda: generation.num_open == 0)
    left = await asyncio.wait_for(reader.read(), 10)
    assert b"[DONE]" not in left
    assert not left.endswith(b"0\r\n\r\n")
    writer.close()
    await server.close(grace_s=1)


async def test_a_busy_port_fails(server: HttpServer, generation: FakeGeneration) -> None:
    with pytest.raises(AddressInUseError, match=f"{HOST}:{server.port}"):
        await serve_http(door(generation), HOST, server.port)
    with socket.socket() as sharing:
        sharing.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        with pytest.raises(OSError, match="in use"):
            sharing.bind((HOST, server.port))


async def test_closing_lets_open_answers_finish(generation: FakeGeneration) -> None:
    go_on = asyncio.Event()
    generation.answer = lambda _: [accepted(), go_on.wait(), Delta(output_index=0, text="late")]
    server = await serve(generation)
    idle_reader, idle_writer = await connect(server, b"GET /health HTTP/1.1\r\nhost: d\r\n\r\n")
    await idle_reader.readuntil(b'"ok"}')
    reader, writer = await connect(server, chat(stream=True))
    await reader.readuntil(b'"content":""')
    closing = asyncio.create_task(server.close(grace_s=10))
    await _refused(server.port)
    go_on.set()
    assert b"late" in await reader.readuntil(b"data: [DONE]\n\n")
    await asyncio.wait_for(closing, 5)
    assert await idle_reader.read() == b""
    writer.close()
    idle_writer.close()


async def test_closing_ends_what_does_not_finish(generation: FakeGeneration) -> None:
    generation.answer = lambda _: endless()
    server = await serve(generation)
    reader, writer = await connect(server, chat(stream=True))
    await reader.readuntil(b'"content":"a"')
    await asyncio.wait_for(server.close(grace_s=0.05), 5)
    assert generation.num_open == 0
    assert b"[DONE]" not in await reader.read()
    writer.close()


async def _refused(port: int) -> None:
    """Returns once nobody listens on the port."""
    async with asyncio.timeout(5):
        while True:
            try:
                _, writer = await asyncio.open_connection(HOST, port)
            except ConnectionRefusedError:
                return
            writer.close()
