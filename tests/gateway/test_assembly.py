"""The gateway's listener is the public one: it is more patient than those of the services."""

from __future__ import annotations

import asyncio

import pytest

from tests.gateway.conftest import System
from tests.octavo.rpc.silent_peer import silent_client


@pytest.mark.slow
async def test_a_client_may_leave_pings_unanswered_for_longer_than_a_service(
    system: System,
) -> None:
    async with (
        silent_client(system.worker.address) as to_service,
        silent_client(system.address) as to_gateway,
    ):
        both = [to_service, to_gateway]
        await asyncio.wait(both, timeout=8, return_when=asyncio.FIRST_COMPLETED)
        assert to_service.done()
        assert not to_gateway.done()
