"""Both clients of a scripted server: a test that takes `client` runs once with each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.octavo.client.blocking import Harness
from tests.octavo.client.scripted_server import ScriptedServer

MakeHarness = Callable[..., Harness]


@pytest.fixture(params=["threads", "asyncio"])
def make_harness(request: pytest.FixtureRequest, server: ScriptedServer) -> Iterator[MakeHarness]:
    """Makes clients with options of the test's."""
    with ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner()) if request.param == "asyncio" else None

        def make(**options: Any) -> Harness:
            harness = Harness(server.address, runner, **options)
            stack.callback(harness.client.close)
            return harness

        yield make


@pytest.fixture
def harness(make_harness: MakeHarness) -> Harness:
    return make_harness(retries=0)


@pytest.fixture
def client(harness: Harness) -> Any:
    return harness.client
