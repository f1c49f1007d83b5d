"""octavo.rpc.admin: what an operator sees and does, on a listener of its own."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
import pytest
import pytest_asyncio
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc

import octavo
from octavo.errors import InvalidArgumentError, NotFoundError, OctavoError, ResourceExhaustedError
from octavo.rpc.admin import OpenRequest, administered
from octavo.rpc.channel import open_channel
from octavo.rpc.shutdown import Shutdown
from octavo.rpc.status import error_from_rpc
from octavo.v1 import admin_pb2 as pb
from octavo.v1 import admin_pb2_grpc


@dataclass
class Process:
    """A process with some requests."""

    ids: list[str]
    is_serving: bool = True
    is_draining: bool = False
    aborted: list[tuple[str, OctavoError]] = field(default_factory=list)

    @property
    def num_open(self) -> int:
        return len(self.ids)

    def open_requests(self) -> Sequence[OpenRequest]:
        return [OpenRequest(request_id=id, began_at=time.monotonic() - 1) for id in self.ids]

    def abort(self, request_id: str, error: OctavoError) -> int:
        self.aborted.append((request_id, error))
        return self.ids.count(request_id)


@dataclass
class Admin:
    """The process, and a channel to its admin calls."""

    process: Process
    shutdown: Shutdown
    channel: grpc.aio.Channel
    stub: admin_pb2_grpc.AdminServiceAsyncStub

    async def failure(self, call: Any) -> OctavoError:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await call
        return error_from_rpc(failed.value)


@pytest_asyncio.fixture
async def admin() -> AsyncIterator[Admin]:
    process, shutdown = Process(ids=["one", "one", "ten"]), Shutdown()
    async with (
        administered("127.0.0.1:0", "worker", process, shutdown) as ports,
        open_channel(f"127.0.0.1:{ports['admin_port']}") as channel,
    ):
        yield Admin(process, shutdown, channel, admin_pb2_grpc.AdminServiceStub(channel))


async def test_without_an_address_nothing_listens() -> None:
    async with administered(None, "worker", Process([]), Shutdown()) as ports:
        assert ports == {}


async def test_the_status_says_what_runs_and_what_is_open(admin: Admin) -> None:
    status = await admin.stub.GetStatus(pb.GetStatusRequest())
    assert (status.service, status.version, status.pid) == (
        "worker",
        octavo.__version__,
        os.getpid(),
    )
    assert status.state == pb.PROCESS_STATE_SERVING
    assert status.open_request_count == 3
    assert [request.request_id for request in status.open_requests] == ["one", "one", "ten"]
    assert status.open_requests[0].age_ms >= 900
    admin.process.is_serving = False
    status = await admin.stub.GetStatus(pb.GetStatusRequest())
    assert status.state == pb.PROCESS_STATE_NOT_SERVING
    admin.process.is_draining = True
    status = await admin.stub.GetStatus(pb.GetStatusRequest())
    assert status.state == pb.PROCESS_STATE_DRAINING


async def test_a_drain_is_asked_for_and_answered_at_once(admin: Admin) -> None:
    answer = await admin.stub.Drain(pb.DrainRequest())
    assert answer.open_request_count == 3
    async with asyncio.timeout(5):
        await admin.shutdown.wait()


async def test_an_abort_is_for_exactly_one_id(admin: Admin) -> None:
    answer = await admin.stub.Abort(pb.AbortRequest(request_id="one"))
    assert answer.aborted_request_count == 2
    ((request_id, error),) = admin.process.aborted
    assert (request_id, error.reason) == ("one", "ABORTED")
    missing = await admin.failure(admin.stub.Abort(pb.AbortRequest(request_id="on")))
    assert isinstance(missing, NotFoundError)
    empty = await admin.failure(admin.stub.Abort(pb.AbortRequest()))
    assert isinstance(empty, InvalidArgumentError)


async def test_a_profile_shows_what_the_loop_does(admin: Admin) -> None:
    call = admin.stub.Profile(pb.ProfileRequest(duration_ms=300))
    while not call.done():
        busy_until = time.monotonic() + 0.02
        while time.monotonic() < busy_until:
            pass
        await asyncio.sleep(0)
    answer = await call
    assert answer.sample_count > 3
    stacks = [line.rpartition(" ") for line in answer.collapsed_stacks.splitlines()]
    assert sum(int(count) for _, _, count in stacks) == answer.sample_count
    name = test_a_profile_shows_what_the_loop_does.__name__
    assert any(stack.endswith(f":{name}") for stack, _, _ in stacks)


async def test_one_profile_at_a_time_and_a_client_that_leaves_ends_it(admin: Admin) -> None:
    async def profile(duration_ms: int) -> OctavoError | None:
        try:
            await admin.stub.Profile(pb.ProfileRequest(duration_ms=duration_ms))
        except grpc.aio.AioRpcError as error:
            return error_from_rpc(error)
        return None

    both = [asyncio.create_task(profile(60_000)) for _ in range(2)]
    (refused,), (running,) = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    assert isinstance(refused.result(), ResourceExhaustedError)
    running.cancel()
    async with asyncio.timeout(5):
        while await profile(1) is not None:
            pass


@pytest.mark.parametrize("duration_ms", [0, 60_001, 2**32 - 1])
async def test_a_profile_is_bounded(admin: Admin, duration_ms: int) -> None:
    error = await admin.failure(admin.stub.Profile(pb.ProfileRequest(duration_ms=duration_ms)))
    assert error.metadata["field"] == "duration_ms"


async def test_channelz_is_there(admin: Admin) -> None:
    channel: Any = admin.channel  # its stubs know the other kind only
    stub = channelz_pb2_grpc.ChannelzStub(channel)
    answer = await stub.GetServers(channelz_pb2.GetServersRequest(start_server_id=0))
    assert answer.server
