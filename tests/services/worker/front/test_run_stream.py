"""One Run call, over a group without ranks: what is refused, and how calls end."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import pytest
from prometheus_client import CollectorRegistry

from octavo.errors import InvalidArgumentError, OctavoError, ResourceExhaustedError
from octavo.v1 import worker_pb2
from services.worker.front import attachment
from services.worker.front.admission import Admission
from services.worker.front.group import Group
from services.worker.front.request_watch import RequestWatch
from services.worker.front.run_stream import carry
from services.worker.link import unsent
from tests.services.worker.front.simulated_worker import LIMITS
from tests.services.worker.front.test_group import make_config

ATTACH = worker_pb2.RunRequest(attach=worker_pb2.Attach(gateway_id="g"))
SUBMIT = worker_pb2.RunRequest(submit=worker_pb2.Submit(key=1, prompt_token_ids=[1]))


async def ignore(_: bool) -> None:
    pass


def make_group() -> Group:
    config = make_config("", 1, [sys.executable])
    watch = RequestWatch(CollectorRegistry())
    return Group(
        config,
        max_restarts=0,
        on_serving=ignore,
        watch=watch,
        admission=Admission(LIMITS),
        max_outputs=8,
    )


async def acts(*requests: worker_pb2.RunRequest) -> AsyncIterator[worker_pb2.RunRequest]:
    for request in requests:
        yield request


async def run(*requests: worker_pb2.RunRequest) -> list[worker_pb2.RunResponse]:
    written: list[worker_pb2.RunResponse] = []

    async def write(response: worker_pb2.RunResponse) -> None:
        written.append(response)

    await carry(make_group(), acts(*requests), write)
    return written


@pytest.mark.parametrize(
    ("requests", "reason"),
    [
        ([], "ATTACH_REQUIRED"),
        ([SUBMIT], "ATTACH_REQUIRED"),
        ([worker_pb2.RunRequest(attach=worker_pb2.Attach())], "INVALID_FIELD"),
        ([ATTACH, ATTACH], "UNEXPECTED_ACTION"),
        ([ATTACH, worker_pb2.RunRequest()], "UNEXPECTED_ACTION"),
        ([ATTACH, worker_pb2.RunRequest(submit=worker_pb2.Submit())], "KEY_REQUIRED"),
    ],
)
async def test_a_stream_that_breaks_the_rules_ends(
    requests: list[worker_pb2.RunRequest], reason: str
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await run(*requests)
    assert caught.value.reason == reason


async def test_a_refused_request_is_answered_and_the_stream_goes_on_to_its_end() -> None:
    (response,) = await run(ATTACH, SUBMIT)
    assert response.items[0].error.reason == "WORKER_NOT_SERVING"


async def test_a_reader_that_stalls_is_dropped_while_its_write_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unsent, "MAX_BYTES", 1_000)
    monkeypatch.setattr(attachment, "IDLE_S", 60)

    async def hang(_: worker_pb2.RunResponse) -> None:
        await asyncio.Event().wait()

    async def many() -> AsyncIterator[worker_pb2.RunRequest]:
        yield ATTACH
        for key in range(100):
            yield worker_pb2.RunRequest(submit=worker_pb2.Submit(key=key, prompt_token_ids=[1]))
            await asyncio.sleep(0)
        await asyncio.Event().wait()

    with pytest.raises(OctavoError) as caught:
        await asyncio.wait_for(carry(make_group(), many(), hang), 10)
    assert isinstance(caught.value, ResourceExhaustedError)
    assert caught.value.reason == "SLOW_READER"
