"""Both clients: what calls send, what comes back, how they fail, and when they try again."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

import octavo
from octavo.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    ResourceExhaustedError,
    UnavailableError,
)
from octavo.v1 import generation_pb2 as pb
from tests.octavo.client.conftest import MakeHarness
from tests.octavo.client.scripted_server import ScriptedServer, chatter, refuse, say

BUSY = ResourceExhaustedError(
    "The queue is full.", reason="QUEUE_FULL", metadata={"limit": "1"}, retry_delay_ms=10
)
LOST = UnavailableError("The worker was lost.", reason="WORKER_LOST")


def test_a_generation_comes_whole(client: Any) -> None:
    answer = client.generate("Hi", max_tokens=5)
    assert (answer.text, answer.finish_reason) == ("Hello", octavo.FinishReason.STOP)
    assert (answer.request_id, answer.model, answer.seed) == ("req-1", "tiny", 7)
    assert (answer.usage.prompt_token_count, answer.usage.completion_token_count) == (3, 2)


def test_the_request_is_what_was_asked(server: ScriptedServer, client: Any) -> None:
    client.generate(messages=[{"role": "user", "content": "Hi"}], temperature=0, stop="x")
    asked = server.requests[0]
    assert [(m.role, m.content) for m in asked.chat.messages] == [("user", "Hi")]
    assert asked.sampling == pb.SamplingParameters(temperature=0)
    assert asked.stopping == pb.StoppingParameters(stop=["x"])


def test_tokens_and_text(client: Any) -> None:
    tokens = client.tokenize("Hi", token_bytes=True)
    assert (tokens.token_ids, tokens.token_bytes) == ((72, 105), (b"x",))
    assert client.detokenize(tokens.token_ids) == "Hi"
    chat = client.tokenize(messages=[{"role": "user", "content": "Yo"}])
    assert (chat.rendered_text, chat.max_context_tokens) == ("Yo", 9)


def test_models(client: Any) -> None:
    assert [model.name for model in client.models()] == ["tiny"]
    model = client.model()
    assert (model.max_context_tokens, model.eos_token_ids, model.ready) == (64, (2,), True)


def test_a_refusal_is_its_exception(server: ScriptedServer, client: Any) -> None:
    server.script = refuse(BUSY, times=1, then=say())
    with pytest.raises(ResourceExhaustedError, match="queue is full") as caught:
        client.generate("Hi")
    error = caught.value
    assert (error.reason, error.metadata, error.retry_delay_ms) == ("QUEUE_FULL", BUSY.metadata, 10)


def test_what_cannot_be_sent_is_refused_here(server: ScriptedServer, client: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="exactly one of"):
        client.generate()
    with pytest.raises(TypeError, match="did you mean temperature"):
        client.stream("Hi", temprature=1)
    assert server.requests == []


@pytest.mark.parametrize("error", [BUSY, LOST])
def test_a_refused_call_is_made_again(
    server: ScriptedServer, make_harness: MakeHarness, error: octavo.OctavoError
) -> None:
    server.script = refuse(error, times=2, then=say("yes"))
    assert make_harness(retries=2).client.generate("Hi").text == "yes"
    assert len(server.requests) == 3


def test_retries_are_bounded(server: ScriptedServer, make_harness: MakeHarness) -> None:
    server.script = refuse(BUSY, times=9, then=say())
    with pytest.raises(ResourceExhaustedError):
        make_harness(retries=1).client.generate("Hi")
    assert len(server.requests) == 2


def test_what_a_retry_does_not_help_is_not_repeated(
    server: ScriptedServer, make_harness: MakeHarness
) -> None:
    server.script = refuse(InvalidArgumentError("no"), times=9, then=say())
    with pytest.raises(InvalidArgumentError):
        make_harness(retries=5).client.generate("Hi")
    assert len(server.requests) == 1


@pytest.mark.parametrize("call", [{"timeout": 0.2}, {}])
def test_a_timeout_is_of_the_call_or_of_the_client(
    server: ScriptedServer, make_harness: MakeHarness, call: dict[str, float]
) -> None:
    server.script = chatter
    harness = make_harness(timeout=30 if call else 0.2)
    with pytest.raises(DeadlineExceededError, match=r"timeout of 0\.2 s"):
        harness.client.generate("Hi", **call)
    assert 0 < (server.timeouts_s[0] or math.inf) <= 0.21  # the wire rounds up
    harness.until(lambda: server.num_open == 0)


def test_an_infinite_timeout_is_none(server: ScriptedServer, make_harness: MakeHarness) -> None:
    make_harness(timeout=0.001).client.generate("Hi", timeout=math.inf)
    assert server.timeouts_s == [None]


@pytest.mark.parametrize("timeout", [0, -1, math.nan, "a", "1", True, [1.0], 1j])
def test_a_timeout_that_is_none_is_refused(client: Any, timeout: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^timeout is .*; it must be a number of s"):
        client.generate("Hi", timeout=timeout)


def test_no_server_says_which_address(server: ScriptedServer, client: Any) -> None:
    server.stop()
    with pytest.raises(UnavailableError, match=server.address) as caught:
        client.models()
    assert (caught.value.reason, caught.value.metadata) == (
        "UNREACHABLE",
        {"address": server.address},
    )


def test_the_next_call_connects_again(server: ScriptedServer, make_harness: MakeHarness) -> None:
    client = make_harness(retries=10, timeout=10).client
    assert client.generate("Hi").text == "Hello"
    server.stop()
    replaced = ScriptedServer(server.port)
    try:
        assert client.generate("Hi").text == "Hello"
    finally:
        replaced.stop()


@pytest.mark.parametrize(
    "left_open",
    ["events = client.stream('a')", "session = client.session(); events = session.open('a')"],
)
def test_a_process_may_end_with_a_generation_open(server: ScriptedServer, left_open: str) -> None:
    server.script = chatter
    script = f"import octavo; client = octavo.Client({server.address!r}); {left_open}; next(events)"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert (done.returncode, done.stderr) == (0, "")
    give_up_at = time.monotonic() + 10
    while server.num_open:
        assert time.monotonic() < give_up_at
        time.sleep(0.01)


def test_a_closed_client_says_so(client: Any) -> None:
    client.close()
    with pytest.raises(FailedPreconditionError, match="closed"):
        client.models()


def test_closing_a_client_ends_its_streams(server: ScriptedServer, client: Any) -> None:
    server.script = chatter
    stream = client.stream("Hi")
    next(stream)
    client.close()
    with pytest.raises(octavo.errors.CancelledError):
        list(stream)


def test_many_threads_share_a_client(server: ScriptedServer) -> None:
    server.script = say(*"abcdefgh")
    texts: list[str] = []
    with octavo.Client(server.address) as client:

        def ask() -> None:
            texts.extend(client.stream("Hi").result().text for _ in range(10))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert texts == ["abcdefgh"] * 80


def test_an_async_client_belongs_to_one_loop(server: ScriptedServer) -> None:
    shared = octavo.AsyncClient(server.address)

    async def use(*, close: bool) -> None:
        await shared.models()
        if close:
            await shared.aclose()

    with asyncio.Runner() as first, asyncio.Runner() as second:
        first.run(use(close=False))
        with pytest.raises(FailedPreconditionError, match="another event loop"):
            second.run(use(close=False))
        first.run(use(close=True))


@pytest.mark.parametrize("address", ["", "http://a:1", "a:99999", "a:b", "::1"])
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(InvalidArgumentError, match="host:port"):
        octavo.Client(address)


@pytest.mark.parametrize("address", ["localhost:8001", "localhost", "[::1]:80", "[::1]"])
def test_an_address_may_leave_out_the_port(address: str) -> None:
    with octavo.Client(address) as client:
        assert client.address.rpartition(":")[2] in ("8001", "80")
