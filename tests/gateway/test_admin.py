"""An operator ends requests of a gateway, wherever they are, by their whole id."""

from __future__ import annotations

import asyncio

import grpc.aio
import pytest

from gateway.admin import GatewayAdmin
from octavo.errors import AbortedError, OctavoError
from octavo.rpc.status import error_from_rpc
from octavo.v1 import generation_pb2 as pb
from tests.gateway.conftest import System
from tests.gateway.fake_worker import chatter
from tests.gateway.waiting import until

ERROR = AbortedError("The operator said so.", reason="ABORTED")


def admin_of(system: System) -> GatewayAdmin:
    return GatewayAdmin(system.gateway.generation, system.gateway.admission)


async def failure(
    call: grpc.aio.UnaryUnaryCall[pb.GenerateRequest, pb.GenerateResponse],
) -> OctavoError:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await asyncio.wait_for(call, 5)
    return error_from_rpc(failed.value)


async def test_a_running_request_is_aborted_everywhere(system: System) -> None:
    system.worker.reply = chatter
    admin = admin_of(system)
    first = system.stub.Generate(pb.GenerateRequest(prompt="hi", request_id="req-1"))
    await until(lambda: system.worker.kv_blocks_used == 1)
    second = system.stub.Generate(pb.GenerateRequest(prompt="hi", request_id="req-10"))
    await until(lambda: system.worker.kv_blocks_used == 2)
    assert [request.request_id for request in admin.open_requests()] == ["req-1", "req-10"]
    assert (admin.num_open, admin.is_serving, admin.is_draining) == (2, True, False)
    assert admin.abort("req-", ERROR) == 0
    assert admin.abort("req-1", ERROR) == 1
    error = await failure(first)
    assert (type(error), error.reason) == (AbortedError, "ABORTED")
    await until(lambda: system.worker.kv_blocks_used == 1)
    assert admin.abort("req-10", ERROR) == 1
    await failure(second)
    await until(lambda: system.worker.kv_blocks_used == 0)
    assert admin.num_open == 0


async def test_a_request_that_waits_for_its_prompt_is_aborted_too(system: System) -> None:
    system.tokenizer.encoding_allowed.clear()
    admin = admin_of(system)
    call = system.stub.Generate(pb.GenerateRequest(prompt="hi", request_id="early"))
    await until(lambda: admin.num_open == 1)
    assert admin.abort("early", ERROR) == 1
    error = await failure(call)
    assert isinstance(error, AbortedError)
    assert not system.worker.submits


async def test_in_a_session_it_is_one_error_of_that_key(system: System) -> None:
    system.worker.reply = chatter
    call = system.stub.OpenSession()
    request = pb.GenerateRequest(prompt="hi", request_id="mine")
    await call.write(pb.OpenSessionRequest(key=1, open=request))
    await until(lambda: system.worker.kv_blocks_used == 1)
    assert admin_of(system).abort("mine", ERROR) == 1
    answer = pb.OpenSessionResponse()
    while not answer.HasField("error"):
        read = await asyncio.wait_for(call.read(), 5)
        assert isinstance(read, pb.OpenSessionResponse)
        answer = read
    assert (answer.error.code, answer.error.reason) == (pb.ERROR_CODE_ABORTED, "ABORTED")
    call.cancel()
