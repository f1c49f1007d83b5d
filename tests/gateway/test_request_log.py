"""Each request that ends leaves one line and its place in the counters, however it ended."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

import grpc.aio
import pytest
import structlog

from octavo.v1 import generation_pb2 as pb
from tests.gateway.conftest import System
from tests.gateway.fake_worker import chatter, say
from tests.gateway.waiting import until

Lines = list[MutableMapping[str, Any]]


@pytest.fixture
def lines() -> Iterator[Lines]:
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as captured:
        yield captured


def requests(lines: Lines) -> Lines:
    return [line for line in lines if line["event"] == "request"]


def ask(**fields: object) -> pb.GenerateRequest:
    return pb.GenerateRequest(**{"prompt": "hi", **fields})  # type: ignore[arg-type] # any field


def sample(system: System, name: str, **labels: str) -> float | None:
    return system.gateway.metrics.registry.get_sample_value(f"octavo_gateway_{name}", labels)


async def test_an_answer_is_one_line_with_counts_and_times(system: System, lines: Lines) -> None:
    system.worker.reply = say("héllo")
    await system.stub.Generate(ask(request_id="mine"))
    (line,) = requests(lines)
    assert (line["log_level"], line["request_id"]) == ("info", "mine")
    assert (line["method"], line["model"], line["outcome"]) == ("Generate", "tiny", "ok")
    assert (line["prompt_tokens"], line["completion_tokens"]) == (2, 7)
    assert line["finish"] == ["STOP"]
    opened = [opening for frame in system.tokenizer.frames for opening in frame.opens]
    assert [opening.request_id for opening in opened] == ["mine"]
    assert line["ms"] >= line["first_token_ms"] > 0
    assert "reason" not in line
    labels = {"method": "Generate", "model": "tiny", "outcome": "ok"}
    assert sample(system, "requests_total", **labels) == 1
    assert sample(system, "prompt_tokens_total", model="tiny") == 2
    assert sample(system, "generated_tokens_total", model="tiny") == 7
    assert sample(system, "first_token_seconds_count", model="tiny") == 1
    assert sample(system, "inter_token_seconds_count", model="tiny")
    assert sample(system, "request_seconds_count", method="Generate") == 1


@pytest.mark.parametrize(
    ("fields", "reason", "model"),
    [
        ({"sampling": {"temperature": -1}}, "INVALID_FIELD", ""),
        ({"model": "nobody's"}, "MODEL_NOT_FOUND", ""),
        ({"prompt": ""}, "INVALID_FIELD", "tiny"),
    ],
)
async def test_a_refusal_names_its_reason(
    system: System, lines: Lines, fields: dict[str, Any], reason: str, model: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError):
        await system.stub.Generate(ask(**fields))
    (line,) = requests(lines)
    assert (line["outcome"], line["reason"], line["log_level"]) == ("refused", reason, "info")
    assert line["request_id"]
    assert sample(system, "errors_total", reason=reason) == 1
    labels = {"method": "Generate", "model": model, "outcome": "refused"}
    assert sample(system, "requests_total", **labels) == 1


async def test_bytes_that_are_no_request_are_a_line_too(system: System, lines: Lines) -> None:
    unary: Any = system.channel.unary_unary("/octavo.v1.GenerationService/Generate")
    with pytest.raises(grpc.aio.AioRpcError):
        await unary(b"\xff\xff\xff")
    (line,) = requests(lines)
    assert (line["outcome"], line["reason"]) == ("refused", "UNDECODABLE_MESSAGE")


async def test_a_cancelled_call_counts_the_tokens_that_it_was_given(
    system: System, lines: Lines
) -> None:
    system.worker.reply = chatter
    call = system.stub.StreamGenerate(ask())
    async for response in call:
        if response.delta.text:
            call.cancel()
            break
    await until(lambda: bool(requests(lines)))
    (line,) = requests(lines)
    assert (line["outcome"], line["method"]) == ("cancelled", "StreamGenerate")
    assert line["completion_tokens"] > 0
    assert line["ms"] >= line["first_token_ms"] >= line["queue_ms"] > 0
    assert sample(system, "generated_tokens_total", model="tiny") == line["completion_tokens"]
    assert sample(system, "errors_total", reason="CANCELLED") is None


async def test_a_deadline_in_the_queue_leaves_the_time_that_was_waited(
    system: System, lines: Lines
) -> None:
    system.worker.stepping.clear()
    with pytest.raises(grpc.aio.AioRpcError):
        await system.stub.Generate(ask(), timeout=0.3)
    await until(lambda: bool(requests(lines)))
    (line,) = requests(lines)
    assert line["ms"] >= line["queue_ms"] > 100
    assert "first_token_ms" not in line


async def test_a_lost_worker_leaves_the_times_so_far(system: System, lines: Lines) -> None:
    call = system.stub.StreamGenerate(ask())
    async for response in call:
        if response.delta.text:
            break
    await system.worker.kill()
    await until(lambda: bool(requests(lines)))
    (line,) = requests(lines)
    assert (line["outcome"], line["reason"]) == ("failed", "WORKER_LOST")
    assert line["ms"] >= line["first_token_ms"] >= line["queue_ms"] > 0


async def test_a_failure_of_a_service_is_one_of_the_server_s(system: System, lines: Lines) -> None:
    await system.worker.kill()
    await until(lambda: not system.gateway.generation.is_ready())
    with pytest.raises(grpc.aio.AioRpcError):
        await system.stub.Generate(ask())
    (line,) = requests(lines)
    assert (line["outcome"], line["reason"]) == ("failed", "NO_WORKER")


async def test_each_request_of_a_session_has_its_own_line(system: System, lines: Lines) -> None:
    system.worker.reply = chatter
    call = system.stub.OpenSession(metadata=(("x-request-id", "session"),))
    limits = pb.StoppingParameters(max_tokens=3)
    await call.write(pb.OpenSessionRequest(key=1, open=ask(stopping=limits)))
    await call.write(pb.OpenSessionRequest(key=2, open=ask(request_id="endless")))
    await call.write(pb.OpenSessionRequest(key=2, open=ask(request_id="again")))
    assert isinstance(await call.read(), pb.OpenSessionResponse)
    assert sample(system, "sessions_open") == 1
    await call.write(pb.OpenSessionRequest(key=2, cancel=pb.CancelGeneration()))
    await call.done_writing()
    while isinstance(await call.read(), pb.OpenSessionResponse):
        pass
    ends = {line["request_id"]: (line["outcome"], line.get("reason")) for line in requests(lines)}
    assert ends == {
        "session:1": ("ok", None),
        "endless": ("cancelled", "CANCELLED"),
        "again": ("refused", "KEY_IN_USE"),
    }
    assert len(requests(lines)) == 3
    assert sample(system, "sessions_open") == 0


async def test_a_call_for_ids_has_a_line_and_hands_its_id_on(system: System, lines: Lines) -> None:
    metadata = (("x-request-id", "mine"),)
    await system.stub.Tokenize(pb.TokenizeRequest(text="hi"), metadata=metadata)
    (line,) = requests(lines)
    assert (line["method"], line["model"], line["request_id"]) == ("Tokenize", "tiny", "mine")
    calls = [line for line in lines if str(line.get("method", "")).endswith("/Encode")]
    assert [call["request_id"] for call in calls] == ["mine"]
