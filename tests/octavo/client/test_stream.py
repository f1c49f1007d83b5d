"""The events of one generation: all, the text alone, the whole; and every way to leave early."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

import octavo
from octavo.errors import CancelledError, DataLossError, DeadlineExceededError, UnavailableError
from octavo.v1 import generation_pb2 as pb
from tests.octavo.client.blocking import Harness
from tests.octavo.client.conftest import MakeHarness
from tests.octavo.client.scripted_server import (
    ScriptedServer,
    accepted,
    chatter,
    delta,
    finished,
    refuse,
    say,
    usage,
)

LOST = UnavailableError("The worker was lost.", reason="WORKER_LOST", retry_delay_ms=1)


def test_events_come_typed_and_in_order(client: Any) -> None:
    events = list(client.stream("Hi"))
    kinds = [octavo.Accepted, octavo.Delta, octavo.Delta, octavo.Finished, octavo.Usage]
    assert [type(event) for event in events] == kinds
    assert "".join(event.text for event in events[1:3]) == "Hello"


def test_the_text_alone(client: Any) -> None:
    assert list(client.stream("Hi").text()) == ["Hel", "lo"]


def test_the_result_holds_what_was_iterated_before(client: Any) -> None:
    stream = client.stream("Hi")
    assert isinstance(next(stream), octavo.Accepted)
    next(stream)
    result = stream.result()
    assert (result.text, result.request_id) == ("Hello", "req-1")
    assert stream.result() == result
    assert list(stream) == []


def test_outputs_are_told_apart(server: ScriptedServer, client: Any) -> None:
    server.script = lambda request: iter(
        [accepted(), delta("a"), delta("x", 1), delta("b"), finished("LENGTH", 1)]
        + [delta("c"), finished(stop_text="!"), usage(4)]
    )
    result = client.stream("Hi", n=2).result()
    assert [output.text for output in result.outputs] == ["abc", "x"]
    assert result.outputs[0].finished.stop_text == "!"
    assert result.outputs[1].finish_reason == "LENGTH"
    assert list(client.stream("Hi", n=2).text(1)) == ["x"]


def test_tokens_come_with_their_probabilities(server: ScriptedServer, client: Any) -> None:
    token = pb.Token(id=5, bytes=b"a", logprob=-0.5, top=[pb.TopToken(id=6, bytes=b"b")])
    server.script = lambda request: iter(
        [accepted(), delta("a", tokens=[token]), finished(stop_token_id=2), usage(1)]
    )
    result = client.stream("Hi", logprobs=True).result()
    top = octavo.TopToken(id=6, bytes=b"b", logprob=0)
    assert result.tokens == (octavo.Token(id=5, bytes=b"a", logprob=-0.5, top=(top,)),)
    assert result.outputs[0].finished.stop_token_id == 2


@pytest.mark.parametrize("way", ["close", "with", "drop", "text"])
def test_leaving_early_cancels_on_the_server(
    server: ScriptedServer, harness: Harness, way: str
) -> None:
    server.script = chatter
    stream = harness.client.stream("Hi")
    if way == "text":
        texts = stream.text()
        assert next(texts) == "la "
        texts.close()
    else:
        assert isinstance(next(stream), octavo.Accepted)
    if way == "close":
        stream.close()
    elif way == "with":
        with stream:
            pass
    if way != "drop":
        assert list(stream) == []
        with pytest.raises(CancelledError, match="closed"):
            stream.result()
    del stream
    harness.until(lambda: server.num_open == 0)


def test_a_loop_that_breaks_cancels(server: ScriptedServer, harness: Harness) -> None:
    server.script = chatter
    for _ in harness.client.stream("Hi"):
        break
    harness.until(lambda: server.num_open == 0)


def test_a_stream_that_never_began_is_made_again(
    server: ScriptedServer, make_harness: MakeHarness
) -> None:
    server.script = refuse(LOST, times=2, then=say("yes"))
    assert list(make_harness(retries=2).client.stream("Hi").text()) == ["yes"]
    assert len(server.requests) == 3


def test_a_stream_that_began_is_not(server: ScriptedServer, make_harness: MakeHarness) -> None:
    server.script = lambda request: iter([accepted(), delta("a"), LOST])
    stream = make_harness(retries=2).client.stream("Hi")
    assert next(stream).request_id == "req-1"
    with pytest.raises(UnavailableError):
        list(stream)
    assert list(stream) == []
    with pytest.raises(UnavailableError):
        stream.result()
    assert len(server.requests) == 1


def test_a_deadline_ends_a_stream(server: ScriptedServer, harness: Harness) -> None:
    server.script = chatter
    with pytest.raises(DeadlineExceededError):
        list(harness.client.stream("Hi", timeout=0.2))
    harness.until(lambda: server.num_open == 0)


def test_a_stream_without_its_end_is_no_result(server: ScriptedServer, client: Any) -> None:
    server.script = lambda request: iter([accepted(), delta("a")])
    with pytest.raises(DataLossError, match="too early"):
        client.stream("Hi").result()


def test_a_server_that_dies_is_unavailable(server: ScriptedServer, client: Any) -> None:
    server.script = chatter
    stream = client.stream("Hi")
    next(stream)
    threading.Thread(target=server.stop).start()
    with pytest.raises(UnavailableError):
        list(stream)


def test_what_a_newer_server_says_is_passed_over(server: ScriptedServer, client: Any) -> None:
    newer = finished()
    newer.finished.reason = 99  # type: ignore[assignment] # an enum of the future
    unknown = pb.StreamGenerateResponse()
    server.script = lambda request: iter([accepted(), unknown, newer, usage(0)])
    assert client.stream("Hi").result().finish_reason is octavo.FinishReason.UNSPECIFIED


def test_another_thread_closes_a_stream_that_waits(server: ScriptedServer) -> None:
    server.script = chatter
    server.gate.clear()
    with octavo.Client(server.address) as client:
        stream = client.stream("Hi")
        threading.Timer(0.1, stream.close).start()
        with pytest.raises(CancelledError):
            next(stream)


async def test_another_task_closes_a_stream_that_waits(server: ScriptedServer) -> None:
    server.script = chatter
    server.gate.clear()
    async with octavo.AsyncClient(server.address) as client:
        stream = client.stream("Hi")
        reader = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.05)
        await stream.aclose()
        with pytest.raises(CancelledError):
            await reader


async def test_cancelling_the_reading_task_cancels_the_call(server: ScriptedServer) -> None:
    server.script = chatter
    server.gate.clear()
    async with octavo.AsyncClient(server.address) as client:
        stream = client.stream("Hi")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await anext(stream)
        assert [event async for event in stream] == []
        while server.num_open:
            await asyncio.sleep(0.01)
