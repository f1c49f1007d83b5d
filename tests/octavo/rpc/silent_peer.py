"""Peers that speak as much HTTP/2 as it takes to be connected, and answer no ping."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_SETTINGS_ACKNOWLEDGED = b"\x00\x00\x00\x04\x01\x00\x00\x00\x00"


@asynccontextmanager
async def silent_client(address: str) -> AsyncIterator[asyncio.Task[bytes]]:
    """A connection to a server; the task ends once the server has closed it."""
    reader, writer = await asyncio.open_connection(*address.split(":"))
    writer.write(_PREFACE + _SETTINGS + _SETTINGS_ACKNOWLEDGED)
    reading = asyncio.create_task(reader.read(-1))
    try:
        yield reading
    finally:
        reading.cancel()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def silent_server() -> AsyncIterator[str]:
    """The address of a server that answers no call either; its clients leave before it ends."""
    ends: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(_SETTINGS + _SETTINGS_ACKNOWLEDGED)
        with contextlib.suppress(ConnectionError):
            await reader.read(-1)
        writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends.append(asyncio.create_task(serve(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server:
        yield f"{host}:{port}"
        await asyncio.gather(*ends)
