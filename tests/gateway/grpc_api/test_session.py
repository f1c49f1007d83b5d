"""Many generations on one stream, each with its own end."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest

from gateway.grpc_api import convert_request, session
from octavo.rpc.status import error_from_rpc
from octavo.v1 import generation_pb2 as pb
from tests.gateway.conftest import System
from tests.gateway.fake_worker import chatter, say
from tests.gateway.waiting import until

if TYPE_CHECKING:  # subscripts that exist in the stubs only
    SessionCall = grpc.aio.StreamStreamCall[pb.OpenSessionRequest, pb.OpenSessionResponse]


class Client:
    """One session, and what came back by key."""

    def __init__(self, system: System, metadata: tuple[tuple[str, str], ...] = ()) -> None:
        self.call: SessionCall = system.stub.OpenSession(metadata=metadata)
        self.events: dict[int, list[pb.OpenSessionResponse]] = defaultdict(list)

    async def open(self, key: int, **fields: object) -> None:
        request = pb.GenerateRequest(**{"prompt": "hi", **fields})  # type: ignore[arg-type] # any
        await self.call.write(pb.OpenSessionRequest(key=key, open=request))

    async def cancel(self, key: int) -> None:
        await self.call.write(pb.OpenSessionRequest(key=key, cancel=pb.CancelGeneration()))

    async def read(self) -> pb.OpenSessionResponse | None:
        response = await asyncio.wait_for(self.call.read(), 5)
        if not isinstance(response, pb.OpenSessionResponse):
            return None
        self.events[response.key].append(response)
        return response

    async def read_until(self, key: int, kind: str) -> pb.OpenSessionResponse:
        while (response := await self.read()) is not None:
            if response.key == key and response.WhichOneof("event") == kind:
                return response
        raise AssertionError(f"the session ended before {kind} of {key}")

    async def read_all(self) -> None:
        while await self.read() is not None:
            pass

    def kinds(self, key: int) -> list[str | None]:
        return [event.WhichOneof("event") for event in self.events[key]]

    def text(self, key: int) -> str:
        return "".join(event.delta.text for event in self.events[key])


def endings(client: Client, keys: Iterable[int]) -> list[list[str | None]]:
    return [client.kinds(key)[-2:] for key in keys]


async def test_sixteen_generations_of_which_one_is_cancelled(system: System) -> None:
    client = Client(system)
    for key in range(16):
        limits = {} if key == 5 else {"stopping": {"max_tokens": 200}}
        await client.open(key, **limits)
    await client.read_until(5, "delta")
    await client.cancel(5)
    await client.read_until(5, "usage")
    assert client.events[5][-2].finished.reason == pb.FINISH_REASON_CANCELLED
    await client.call.done_writing()
    await client.read_all()
    assert endings(client, range(16)) == [["finished", "usage"]] * 16
    others = [client.text(key) for key in range(16) if key != 5]
    assert others == ["ab" * 100] * 15
    assert len(system.worker.cancelled_keys) == 1
    usage = client.events[5][-1].usage
    assert 0 < usage.completion_token_count < 200
    assert len(client.text(5)) == usage.completion_token_count


async def test_half_close_lets_all_finish(system: System) -> None:
    system.worker.reply = say("hello")
    client = Client(system)
    await client.open(1)
    await client.open(2)
    await client.call.done_writing()
    await client.read_all()
    assert (client.text(1), client.text(2)) == ("hello", "hello")
    assert await client.call.code() is grpc.StatusCode.OK


async def test_a_dropped_stream_cancels_all(system: System) -> None:
    client = Client(system)
    for key in range(8):
        await client.open(key)
    await until(lambda: system.worker.kv_blocks_used == 8)
    client.call.cancel()
    await until(lambda: system.worker.kv_blocks_used == 0, within_s=1)
    await until(lambda: system.gateway.admission.num_requests == 0)


async def test_an_open_key_is_refused_without_disturbing_the_first(system: System) -> None:
    client = Client(system)
    await client.open(7, stopping={"max_tokens": 100})
    await client.read_until(7, "delta")
    await client.open(7)
    error = (await client.read_until(7, "error")).error
    assert (error.code, error.reason) == (pb.ERROR_CODE_ALREADY_EXISTS, "KEY_IN_USE")
    await client.read_until(7, "usage")
    assert client.text(7) == "ab" * 50
    await client.open(7, stopping={"max_tokens": 2})  # the key is free again
    await client.read_until(7, "usage")
    assert client.text(7) == "ab" * 51


async def test_errors_are_events_and_the_session_goes_on(system: System) -> None:
    client = Client(system)
    await client.open(1, sampling={"temperature": -1.0})
    error = (await client.read_until(1, "error")).error
    assert error.code == pb.ERROR_CODE_INVALID_ARGUMENT
    assert error.metadata["field"] == "sampling.temperature"
    assert not error.HasField("retry_delay_ms")
    await client.open(1, stopping={"max_tokens": 2})
    await client.read_until(1, "usage")
    assert client.kinds(1).count("error") == 1


async def test_a_number_that_is_no_value_of_an_enum_fails_its_own_generation(
    system: System,
) -> None:
    system.worker.reply = say("hello")
    client = Client(system)
    message = pb.ChatMessage(role="user", content="hi")
    for key, mode in ((1, 99), (2, -1)):
        choice = pb.ToolChoice(mode=mode)  # type: ignore[arg-type] # the wire takes any number
        chat = pb.ChatInput(messages=[message], tool_choice=choice)
        await client.call.write(pb.OpenSessionRequest(key=key, open=pb.GenerateRequest(chat=chat)))
        error = (await client.read_until(key, "error")).error
        assert (error.code, error.metadata["field"]) == (
            pb.ERROR_CODE_INVALID_ARGUMENT,
            "chat.tool_choice",
        )
    await client.open(3)
    await client.call.done_writing()
    await client.read_all()
    assert client.text(3) == "hello"


async def test_a_fault_of_ours_ends_one_generation_and_not_the_session(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    system.worker.reply = say("hello")
    convert = convert_request.generation_request_from_pb

    def faulty(message: pb.GenerateRequest, **call: Any) -> Any:
        if message.prompt == "break":
            raise IndexError("a fault")
        return convert(message, **call)

    monkeypatch.setattr(session, "generation_request_from_pb", faulty)
    client = Client(system)
    await client.open(1, prompt="break")
    await client.open(2)
    await client.call.done_writing()
    await client.read_all()
    error = client.events[1][0].error
    assert (error.code, "fault" in error.message) == (pb.ERROR_CODE_INTERNAL, False)
    assert client.text(2) == "hello"


async def test_a_lost_worker_ends_each_generation_with_an_error(system: System) -> None:
    client = Client(system)
    for key in range(4):
        await client.open(key)
    await until(lambda: system.worker.kv_blocks_used == 4)
    await system.worker.kill()
    await client.call.done_writing()
    await client.read_all()
    for key in range(4):
        assert client.events[key][-1].error.reason == "WORKER_LOST"
        assert client.events[key][-1].error.retry_delay_ms > 0
        assert not {"finished", "usage"} & set(client.kinds(key))
    assert await client.call.code() is grpc.StatusCode.OK


async def test_a_cancel_before_the_prompt_is_encoded(system: System) -> None:
    system.tokenizer.encoding_allowed.clear()
    client = Client(system)
    await client.open(1)
    await until(lambda: system.tokenizer.calls == ["Encode"])
    await client.cancel(1)
    finished = await client.read_until(1, "finished")
    assert finished.finished.reason == pb.FINISH_REASON_CANCELLED
    await client.read_until(1, "usage")
    assert system.worker.submits == []
    system.tokenizer.encoding_allowed.set()


async def test_a_cancel_does_not_wait_for_a_worker_that_does_not_step(system: System) -> None:
    system.worker.stepping.clear()
    client = Client(system)
    await client.open(1)
    await until(lambda: len(system.worker.submits) == 1)
    await client.cancel(1)
    await client.read_until(1, "usage")
    assert client.kinds(1) == ["accepted", "finished", "usage"]
    assert len(system.worker.cancelled_keys) == 1
    system.worker.stepping.set()


async def test_cancelling_what_has_ended_does_nothing(system: System) -> None:
    client = Client(system)
    await client.cancel(9)
    await client.open(1, stopping={"max_tokens": 1})
    await client.read_until(1, "usage")
    await client.cancel(1)
    await client.call.done_writing()
    await client.read_all()
    assert client.kinds(9) == []


async def test_a_session_has_a_bound_on_open_requests(system: System) -> None:
    client = Client(system)
    for key in range(33):
        await client.open(key)
    error = (await client.read_until(32, "error")).error
    assert (error.code, error.reason) == (pb.ERROR_CODE_RESOURCE_EXHAUSTED, "SESSION_FULL")
    assert error.retry_delay_ms > 0
    client.call.cancel()


async def test_a_client_that_does_not_read_holds_up_nobody(system: System) -> None:
    lazy = Client(system)
    for key in range(16):
        await lazy.open(key, stopping={"max_tokens": 500})
    await until(lambda: system.worker.kv_blocks_used == 0 and len(system.worker.submits) == 16)
    brisk = Client(system)
    await brisk.open(1, stopping={"max_tokens": 4})
    await brisk.read_until(1, "usage")
    await lazy.call.done_writing()
    await lazy.read_all()
    assert [lazy.text(key) for key in range(16)] == ["ab" * 250] * 16


async def test_ids_of_a_session_come_from_its_metadata_and_the_key(system: System) -> None:
    system.worker.reply = say("x")
    client = Client(system, metadata=(("x-request-id", "batch"),))
    await client.open(3)
    await client.open(4, request_id="own")
    await client.call.done_writing()
    await client.read_all()
    assert client.events[3][0].accepted.request_id == "batch:3"
    assert client.events[4][0].accepted.request_id == "own"


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (pb.OpenSessionRequest(open=pb.GenerateRequest(prompt="x")), "key"),
        (pb.OpenSessionRequest(key=2), "action"),
    ],
)
async def test_a_message_without_key_or_action_ends_the_session(
    system: System, message: pb.OpenSessionRequest, field: str
) -> None:
    system.worker.reply = chatter
    client = Client(system)
    await client.open(1)
    await client.read_until(1, "delta")
    await client.call.write(message)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await client.read_all()
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error_from_rpc(raised.value).metadata["field"] == field
    await until(lambda: system.worker.kv_blocks_used == 0)
