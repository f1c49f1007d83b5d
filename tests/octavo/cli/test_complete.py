"""`octavo complete`: text as it comes, several answers in order, JSON, flags."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from octavo.errors import InternalError
from octavo.v1 import generation_pb2 as pb
from tests.octavo.cli.conftest import Run
from tests.octavo.client.scripted_server import (
    ScriptedServer,
    accepted,
    chatter,
    delta,
    finished,
    usage,
)


def test_the_text_and_nothing_else(run: Run) -> None:
    done = run("complete", "Hi")
    assert (done.status, done.out, done.err) == (0, "Hello\n", "")


def test_the_prompt_comes_from_stdin(server: ScriptedServer, run: Run) -> None:
    run("complete", "-", stdin="Line one\nLine two\n")
    assert server.requests[0].prompt == "Line one\nLine two\n"


def test_flags_reach_the_request(server: ScriptedServer, run: Run) -> None:
    flags = ["--temperature=0", "--top-p=0.5", "--top-k=3", "--min-p=0.1", "--seed=-1", "-n2"]
    flags += ["--max-tokens=9", "--stop", "a", "--stop", "b", "--model=m"]
    flags += ["--frequency-penalty=1", "--presence-penalty=-1", "--repetition-penalty=1.5"]
    run("complete", "Hi", *flags)
    assert server.requests[0] == pb.GenerateRequest(
        prompt="Hi",
        model="m",
        sampling=pb.SamplingParameters(
            temperature=0,
            top_p=0.5,
            top_k=3,
            min_p=0.1,
            seed=-1,
            n=2,
            frequency_penalty=1,
            presence_penalty=-1,
            repetition_penalty=1.5,
        ),
        stopping=pb.StoppingParameters(max_tokens=9, stop=["a", "b"]),
    )


def test_several_answers_come_one_after_the_other(server: ScriptedServer, run: Run) -> None:
    server.script = lambda request: iter(
        [accepted(), delta("x", 1), delta("a"), finished("STOP", 2), delta("b"), delta("y\n", 1)]
        + [finished("LENGTH"), delta("z", 1), finished("STOP", 1), usage()]
    )
    assert run("complete", "Hi", "-n3").out == "ab\n---\nxy\nz\n---\n"


def test_json_has_an_event_a_line(server: ScriptedServer, run: Run) -> None:
    token = pb.Token(id=1, bytes=b"\xff")
    server.script = lambda request: iter(
        [accepted(), delta("é", tokens=[token]), finished(stop_text="!"), usage(1)]
    )
    done = run("complete", "Hi", "--json")
    events = [json.loads(line) for line in done.out.splitlines()]
    assert [event["event"] for event in events] == ["accepted", "delta", "finished", "usage"]
    assert (events[0]["request_id"], events[0]["seed"]) == ("req-1", 7)
    assert (events[1]["text"], events[1]["tokens"][0]["bytes"]) == ("é", [255])
    assert (events[2]["reason"], events[2]["stop_text"]) == ("STOP", "!")
    assert events[3]["completion_token_count"] == 1


def test_json_ends_with_the_failure(server: ScriptedServer, run: Run) -> None:
    failure = InternalError("Broken.", reason="BROKEN", metadata={"rank": "1"})
    server.script = lambda request: iter([accepted(), delta("a"), failure])
    done = run("complete", "Hi", "--json")
    last = json.loads(done.out.splitlines()[-1])
    assert last == {
        "event": "error",
        "code": "INTERNAL",
        "reason": "BROKEN",
        "message": "Broken.",
        "metadata": {"rank": "1"},
        "retry_delay_ms": None,
    }
    assert (done.status, done.err) == (1, "octavo complete: Broken.\n")


def test_verbose_counts_on_stderr(run: Run) -> None:
    done = run("complete", "Hi", "-v")
    assert done.out == "Hello\n"
    assert "req-1: 3 + 2 tokens" in done.err and "seed 7" in done.err


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, -15)])
def test_an_interrupt_ends_the_line_and_cancels(
    server: ScriptedServer, number: signal.Signals, status: int
) -> None:
    server.script = chatter
    with subprocess.Popen(
        [sys.executable, "-m", "octavo", "complete", "Hi", "--address", server.address],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.read(3) == "la "
        process.send_signal(number)
        rest, err = process.communicate(timeout=10)
    assert process.returncode == status
    assert err == ""
    assert rest.endswith("\n") or number != signal.SIGINT
