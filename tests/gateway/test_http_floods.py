"""Floods of headers and bodies against a gateway process: cut off, and no trace in its memory."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import psutil
import pytest

from tests.gateway.fake_tokenizer import FakeTokenizer
from tests.gateway.fake_worker import FakeWorker
from tests.gateway.test_app import running

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
HEAD = b"HTTP/1.1\r\nhost: door\r\n"
FLOODS = {
    "one header": (b"GET /health " + HEAD + b"x-a: ", b"x" * 65_536, 800),
    "headers": (b"GET /health " + HEAD, b"x-abcdefgh: y\r\n" * 4_000, 800),
    "a declared body": (
        b"POST /v1/completions " + HEAD + b"content-length: 200000000\r\n\r\n",
        b" " * 65_536,
        3_000,
    ),
    "a body without end": (
        b"POST /v1/completions " + HEAD + b"transfer-encoding: chunked\r\n\r\n",
        b"10000\r\n" + b" " * 65_536 + b"\r\n",
        3_000,
    ),
    "a body for nobody": (
        b"POST /nowhere " + HEAD + b"content-length: 200000000\r\n\r\n",
        b" " * 65_536,
        3_000,
    ),
}


async def flood(port: int, head: bytes, piece: bytes, count: int) -> int:
    """Sends until it is cut off; how many pieces went."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    num_sent = 0
    with contextlib.suppress(ConnectionError):
        writer.write(head)
        for _ in range(count):
            writer.write(piece)
            await writer.drain()
            num_sent += 1
    writer.close()
    return num_sent


async def test_floods_are_cut_off_and_leave_no_memory_behind(
    worker: FakeWorker, tokenizer: FakeTokenizer, tmp_path: Path
) -> None:
    async with running(worker, tokenizer, tmp_path) as gateway:
        memory = psutil.Process(gateway.process.pid).memory_info
        await flood(gateway.http_port, *FLOODS["a body without end"])  # what is made once
        before = memory().rss
        for _ in range(3):
            for name, (head, piece, count) in FLOODS.items():
                num_sent = await flood(gateway.http_port, head, piece, count)
                assert num_sent < count, name
        assert memory().rss - before < 16 * MIB
