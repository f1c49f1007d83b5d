"""Many generations on one stream, each with its own end, in both clients."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import pytest

import octavo
from octavo.errors import (
    CancelledError,
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    UnavailableError,
)
from tests.octavo.client.blocking import Harness
from tests.octavo.client.scripted_server import ScriptedServer, chatter, refuse, say


def test_many_at_once_and_an_exit_that_waits(server: ScriptedServer, client: Any) -> None:
    server.script = say(*"hello")
    with client.session() as session:
        streams = [session.open(f"prompt {number}") for number in range(20)]
    assert server.num_open == 0  # the exit waited for them
    assert [stream.result().text for stream in streams] == ["hello"] * 20
    assert [request.key for request in server.requests if request.HasField("open")] == [
        *range(1, 21)
    ]


def test_a_generation_reads_like_a_stream(client: Any) -> None:
    with client.session() as session:
        assert list(session.open("a").text()) == ["Hel", "lo"]
        kinds = [type(event).__name__ for event in session.open("b")]
    assert kinds == ["Accepted", "Delta", "Delta", "Finished", "Usage"]


def test_a_cancel_brings_what_there_is(server: ScriptedServer, client: Any) -> None:
    server.script = chatter
    with client.session() as session:
        stream = session.open("a")
        texts = stream.text()
        assert next(texts) == "la "
        stream.cancel()
        result = stream.result()
    assert result.finish_reason == octavo.FinishReason.CANCELLED
    assert result.text.startswith("la ")
    assert server.cancelled_keys == [1]


@pytest.mark.parametrize("way", ["close", "drop"])
def test_leaving_one_cancels_that_one(server: ScriptedServer, harness: Harness, way: str) -> None:
    server.script = chatter
    with harness.client.session() as session:
        kept, left = session.open("a"), session.open("b")
        next(left)
        if way == "close":
            left.close()
            assert list(left) == []
        del left
        harness.until(lambda: server.num_open == 1)
        assert server.cancelled_keys == [2]
        kept.cancel()


def test_an_exception_cancels_all(server: ScriptedServer, harness: Harness) -> None:
    server.script = chatter
    streams = []
    with contextlib.suppress(KeyError), harness.client.session() as session:
        streams += [session.open("a") for _ in range(5)]
        raise KeyError
    harness.until(lambda: server.num_open == 0)
    for stream in streams:
        with pytest.raises(CancelledError):
            stream.result()


def test_a_session_that_is_dropped_cancels_all(server: ScriptedServer, harness: Harness) -> None:
    server.script = chatter
    session = harness.client.session()
    stream = session.open("a")
    next(stream)
    del session
    harness.until(lambda: server.num_open == 0)
    with pytest.raises(CancelledError):
        stream.result()


def test_a_failure_is_of_its_generation_alone(server: ScriptedServer, client: Any) -> None:
    refusal = InvalidArgumentError(
        "no", reason="INVALID_FIELD", metadata={"field": "sampling.n"}, retry_delay_ms=5
    )
    server.script = refuse(refusal, times=1, then=say("yes"))
    with client.session() as session:
        refused = session.open("a")
        with pytest.raises(InvalidArgumentError) as caught:
            refused.result()
        assert session.open("b").result().text == "yes"
    error = caught.value
    assert (error.reason, error.metadata, error.retry_delay_ms) == (
        "INVALID_FIELD",
        {"field": "sampling.n"},
        5,
    )


def test_a_server_that_dies_fails_what_is_open(server: ScriptedServer, client: Any) -> None:
    server.script = chatter
    with client.session() as session:
        stream = session.open("a")
        next(stream)
        threading.Thread(target=server.stop).start()
        with pytest.raises(UnavailableError):
            stream.result()
        with pytest.raises(UnavailableError):
            session.open("b")


def test_a_timeout_of_one_generation_cancels_it(server: ScriptedServer, harness: Harness) -> None:
    server.script = chatter
    with harness.client.session() as session:
        stream = session.open("a", timeout=0.1)
        with pytest.raises(DeadlineExceededError, match=r"0\.1 s"):
            stream.result()
        harness.until(lambda: server.num_open == 0)
        assert server.cancelled_keys == [1]


def test_what_has_come_is_read_after_the_timeout(server: ScriptedServer, harness: Harness) -> None:
    with harness.client.session() as session:
        late = session.open("a", timeout=0.05)
        assert session.open("b").result().text == "Hello"
    harness.until(lambda: server.num_open == 0)
    threading.Event().wait(0.06)
    assert late.result().text == "Hello"


def test_a_timeout_of_the_session_ends_all(server: ScriptedServer, client: Any) -> None:
    server.script = chatter
    with client.session(timeout=0.2) as session:
        stream = session.open("a")
        with pytest.raises(DeadlineExceededError):
            stream.result()


def test_a_session_has_no_deadline_of_its_own(server: ScriptedServer, client: Any) -> None:
    with client.session() as session:
        session.open("a").result()
    assert (server.timeouts_s[0] or 1e10) > 1e9


def test_a_session_that_ended_opens_nothing(client: Any) -> None:
    with client.session() as session:
        pass
    with pytest.raises(FailedPreconditionError, match="closed"):
        session.open("a")


def test_threads_share_a_session(server: ScriptedServer) -> None:
    server.script = say(*"abcd")
    texts: list[str] = []
    with octavo.Client(server.address) as client, client.session() as session:

        def ask() -> None:
            texts.extend(session.open("x").result().text for _ in range(10))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert texts == ["abcd"] * 40


def test_a_session_leaves_no_thread(server: ScriptedServer) -> None:
    with octavo.Client(server.address) as client:
        with client.session() as session:
            session.open("a").result()
        names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith("octavo session")]
