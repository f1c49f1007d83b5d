"""The one-request calls as a client sees them: messages, statuses, details."""

from __future__ import annotations

import asyncio
import re

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from octavo.rpc.status import error_from_rpc
from octavo.v1 import generation_pb2 as pb
from octavo.v1 import worker_pb2
from tests.gateway.conftest import System
from tests.gateway.fake_tokenizer import EOS_ID
from tests.gateway.fake_worker import logprob_of, say
from tests.gateway.waiting import until


def ask(**fields: object) -> pb.GenerateRequest:
    return pb.GenerateRequest(**{"prompt": "hi", **fields})  # type: ignore[arg-type] # any field


async def test_generate_answers_once_with_everything(system: System) -> None:
    system.worker.reply = say("héllo")
    answer = await system.stub.Generate(ask(request_id="mine", output={"token_ids": True}))
    assert (answer.accepted.request_id, answer.accepted.model) == ("mine", "tiny")
    assert [output.text for output in answer.outputs] == ["héllo"]
    assert b"".join(token.bytes for token in answer.outputs[0].tokens) == "héllo".encode()
    assert answer.outputs[0].finished.reason == pb.FINISH_REASON_STOP
    assert answer.outputs[0].finished.stop_token_id == EOS_ID
    assert answer.usage.completion_token_count == 7


async def test_generate_carries_tokens_scores_and_all_outputs(system: System) -> None:
    answer = await system.stub.Generate(
        ask(
            sampling={"n": 2},
            stopping={"max_tokens": 3, "stop_token_sequences": [{"ids": b"ba"}]},
            output={"logprobs": True, "top_logprobs": 1, "prompt_logprobs": True, "echo": True},
        )
    )
    assert [output.text for output in answer.outputs] == ["hia", "hia"]
    for output in answer.outputs:
        (token,) = output.tokens
        assert (token.id, token.bytes, token.logprob) == (97, b"a", logprob_of(97))
        assert [(top.id, top.bytes, top.logprob) for top in token.top] == [(97, b"a", 0.0)]
        assert list(output.finished.stop_token_sequence.ids) == list(b"ba")
    first, second = answer.accepted.prompt_tokens
    assert (first.bytes, first.HasField("logprob")) == (b"h", False)
    assert (second.bytes, second.logprob) == (b"i", logprob_of(105))
    assert answer.usage.completion_token_count == 6


async def test_a_stream_has_the_same_events_in_order(system: System) -> None:
    system.worker.reply = say("héllo")
    kinds, text = [], ""
    async for response in system.stub.StreamGenerate(ask()):
        kinds.append(response.WhichOneof("event"))
        text += response.delta.text
    assert text == "héllo"
    assert kinds[0] == "accepted" and kinds[-2:] == ["finished", "usage"]
    assert set(kinds[1:-2]) == {"delta"}


async def test_the_request_id_comes_from_body_metadata_or_chance(system: System) -> None:
    system.worker.reply = say("x")
    metadata = (("x-request-id", "from-metadata"),)
    both = await system.stub.Generate(ask(request_id="from-body"), metadata=metadata)
    header = await system.stub.Generate(ask(), metadata=metadata)
    drawn = await system.stub.Generate(ask())
    assert both.accepted.request_id == "from-body"
    assert header.accepted.request_id == "from-metadata"
    assert re.fullmatch(r"req-[0-9a-f]{24}", drawn.accepted.request_id)
    for wrong in ("", "ä", "a b", "x" * 129):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await system.stub.Generate(ask(request_id=wrong))
        assert error_from_rpc(raised.value).metadata["field"] == "request_id"


async def test_a_cancelled_call_frees_the_worker(system: System) -> None:
    call = system.stub.StreamGenerate(ask())
    async for response in call:
        if response.HasField("delta"):
            break
    call.cancel()
    await until(lambda: system.worker.kv_blocks_used == 0, within_s=1)
    assert len(system.worker.cancelled_keys) == 1
    unary = system.stub.Generate(ask())
    await until(lambda: system.worker.kv_blocks_used == 1)
    unary.cancel()
    await until(lambda: system.worker.kv_blocks_used == 0, within_s=1)
    await until(lambda: system.gateway.admission.num_requests == 0)


async def test_a_lost_client_frees_the_worker(system: System) -> None:
    calls = [system.stub.StreamGenerate(ask()) for _ in range(8)]
    for call in calls:
        await call.read()
    assert system.worker.kv_blocks_used == 8
    await system.channel.close()
    await until(lambda: system.worker.kv_blocks_used == 0, within_s=1)


async def test_a_deadline_is_the_status_and_reaches_the_worker(system: System) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await system.stub.Generate(ask(), timeout=0.2)
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert 0 < system.worker.submits[0].deadline_ms <= 200
    await until(lambda: system.worker.kv_blocks_used == 0, within_s=1)


async def test_errors_are_statuses_with_details(system: System) -> None:
    system.worker.error = worker_pb2.RunError(
        code=8, reason="QUEUE_FULL", message="full", metadata={"limit": "3"}, retry_delay_ms=250
    )
    for call in (system.stub.Generate(ask()), system.stub.StreamGenerate(ask())):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await (call if isinstance(call, grpc.aio.UnaryUnaryCall) else call.read())
        error = error_from_rpc(raised.value)
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (error.reason, error.metadata) == ("QUEUE_FULL", {"limit": "3"})
        assert error.retry_delay_ms == 250


async def test_an_answer_that_cannot_fit_is_refused_before_the_worker_makes_it(
    system: System,
) -> None:
    asked = pb.GenerateRequest(
        prompt="hi",
        sampling=pb.SamplingParameters(n=32),
        stopping=pb.StoppingParameters(max_tokens=1_000, ignore_eos=True),
        output=pb.OutputOptions(logprobs=True, top_logprobs=20),
    )
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await system.stub.Generate(asked)
    error = error_from_rpc(raised.value)
    assert (error.reason, error.metadata["field"]) == ("INVALID_FIELD", "stopping.max_tokens")
    assert error.metadata["value"] == "1000"
    assert not system.worker.submits
    call = system.stub.StreamGenerate(asked)
    assert isinstance(await call.read(), pb.StreamGenerateResponse)
    call.cancel()


async def test_too_many_requests_are_refused_at_once(system: System) -> None:
    calls = [system.stub.StreamGenerate(ask()) for _ in range(64)]
    await asyncio.gather(*(call.read() for call in calls))
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await system.stub.Generate(ask())
    error = error_from_rpc(raised.value)
    assert (error.reason, error.metadata["limit"]) == ("GATEWAY_FULL", "64")
    assert error.retry_delay_ms
    for call in calls:
        call.cancel()
    await until(lambda: system.gateway.admission.num_requests == 0)
    assert (await system.stub.Generate(ask(stopping={"max_tokens": 1}))).outputs


async def test_grpc_health_follows_the_worker(system: System) -> None:
    health = health_pb2_grpc.HealthStub(system.channel)
    watch = health.Watch(health_pb2.HealthCheckRequest())  # type: ignore[attr-defined] # no types
    statuses = [(await watch.read()).status]
    for act in (system.worker.kill, system.worker.start):
        await act()
        statuses.append((await asyncio.wait_for(watch.read(), 1)).status)
    watch.cancel()
    serving, not_serving = (
        health_pb2.HealthCheckResponse.SERVING,
        health_pb2.HealthCheckResponse.NOT_SERVING,
    )
    assert statuses == [serving, not_serving, serving]


async def test_tokenize_and_detokenize(system: System) -> None:
    answer = await system.stub.Tokenize(pb.TokenizeRequest(text="hé", token_bytes=True))
    assert bytes(answer.token_ids) == "hé".encode()
    assert list(answer.token_bytes) == [b"h", b"\xc3", b"\xa9"]
    assert answer.max_context_tokens == 4_096
    chat = pb.ChatInput(messages=[pb.ChatMessage(role="user", content="hi")])
    answer = await system.stub.Tokenize(pb.TokenizeRequest(chat=chat))
    assert answer.rendered_text == "<user>hi<assistant>"
    detokenized = await system.stub.Detokenize(pb.DetokenizeRequest(token_ids=b"h\xc3\xa9"))
    assert detokenized.text == "hé"
    for wrong in (pb.TokenizeRequest(), pb.TokenizeRequest(chat=pb.ChatInput())):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await system.stub.Tokenize(wrong)
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await system.stub.Detokenize(pb.DetokenizeRequest(token_ids=[1, 300]))
    assert error_from_rpc(raised.value).metadata["field"] == "token_ids[1]"
