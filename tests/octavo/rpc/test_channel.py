"""How long a peer may leave pings unanswered: less between the services than to the public."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio
import pytest

from octavo.rpc.channel import open_channel, open_public_channel
from tests.octavo.rpc.silent_peer import silent_server


async def code_of(channel: grpc.aio.Channel) -> grpc.StatusCode:
    """How a call that nobody answers ends."""
    unary: Any = channel.unary_unary("/a/b")
    code: grpc.StatusCode = await unary(b"").code()
    return code


@pytest.mark.slow
async def test_a_silent_server_is_lost_to_services_before_it_is_to_clients() -> None:
    async with (
        silent_server() as address,
        open_channel(address) as internal,
        open_public_channel(address) as public,
    ):
        first, second = (asyncio.create_task(code_of(c)) for c in (internal, public))
        await asyncio.wait([first, second], timeout=8, return_when=asyncio.FIRST_COMPLETED)
        assert first.done() and first.result() is grpc.StatusCode.UNAVAILABLE
        assert not second.done()
        second.cancel()
