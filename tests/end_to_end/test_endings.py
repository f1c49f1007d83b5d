"""Clients that vanish, cancel or run out of time give everything back."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import grpc
import pytest

from octavo.v1 import generation_pb2 as pb
from tests.end_to_end.product import REPOSITORY, Product, greedy, wait_until

# The worker hears of an end within a second, and its next response shows the blocks free.
WITHIN_S = 1.5
LONG = 500  # tokens, one a step: about a second of work
# By time alone a request that nobody cancelled would pass: it ends by itself soon after.
MOST_STEPS = 350

CLIENT = """
import sys, grpc
from octavo.v1.generation_pb2_grpc import GenerationServiceStub
from tests.end_to_end.product import greedy
channel = grpc.insecure_channel(sys.argv[1])
for event in GenerationServiceStub(channel).StreamGenerate(greedy([5, 6, 7], 500)):
    print(event.WhichOneof("event"), flush=True)
"""


@pytest.fixture
def idle(tiny: Product) -> Iterator[Product]:
    """The product, idle before and soon after the test, and long before its requests were done."""
    wait_until(lambda: tiny.load().kv_blocks_used == 0, "no block is used before")
    first_step = tiny.load().step
    yield tiny
    wait_until(lambda: tiny.load().kv_blocks_used == 0, "no block is used after", WITHIN_S)
    assert (tiny.load().running, tiny.load().waiting) == (0, 0)
    assert tiny.load().step - first_step < MOST_STEPS


def endless(key: int = 1) -> pb.OpenSessionRequest:
    return pb.OpenSessionRequest(key=key, open=greedy([5 + key, 6, 7], LONG))


def test_a_client_that_is_killed_mid_stream(idle: Product) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CLIENT, idle.grpc],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    ) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "accepted\n"
        assert client.stdout.readline() == "delta\n"
        wait_until(lambda: idle.load().kv_blocks_used > 0, "blocks are used")
        client.kill()


def test_a_call_that_is_cancelled(idle: Product) -> None:
    with idle.generation() as stub:
        call = stub.StreamGenerate(greedy([5, 6, 7], LONG))
        next(call)
        call.cancel()
        with pytest.raises(grpc.RpcError) as failed:
            list(call)
    assert failed.value.code() is grpc.StatusCode.CANCELLED


def test_one_of_sixteen_in_a_session_is_cancelled(idle: Product) -> None:
    with idle.generation() as stub:

        def acts() -> Iterator[pb.OpenSessionRequest]:
            for key in range(1, 17):
                yield pb.OpenSessionRequest(
                    key=key, open=greedy([key + 5, 6], LONG if key == 7 else 40)
                )
            wait_until(lambda: 7 in started, "number 7 has started")
            yield pb.OpenSessionRequest(key=7, cancel=pb.CancelGeneration())

        started: set[int] = set()
        ends: dict[int, list[str]] = {key: [] for key in range(1, 17)}
        counts = dict.fromkeys(ends, 0)
        for answer in stub.OpenSession(acts()):
            kind = answer.WhichOneof("event")
            started.add(answer.key)
            counts[answer.key] += len(answer.delta.tokens)
            if kind == "finished":
                ends[answer.key].append(pb.FinishReason.Name(answer.finished.reason))
            elif kind in ("usage", "error"):
                ends[answer.key].append(kind)
    assert ends.pop(7) == ["FINISH_REASON_CANCELLED", "usage"]
    assert all(end == ["FINISH_REASON_LENGTH", "usage"] for end in ends.values())
    assert all(counts[key] == 40 for key in ends)


def test_a_session_that_is_dropped_cancels_all(idle: Product) -> None:
    with idle.generation() as stub:
        call = stub.OpenSession(iter([endless(1), endless(2), endless(3)]))
        for _ in range(4):
            next(call)
        call.cancel()


def test_a_key_that_is_open_is_refused_alone(idle: Product) -> None:
    with idle.generation() as stub:
        acts = [pb.OpenSessionRequest(key=1, open=greedy([5, 6], 30)) for _ in range(2)]
        answers = list(stub.OpenSession(iter(acts)))
    errors = [answer.error for answer in answers if answer.WhichOneof("event") == "error"]
    assert [error.code for error in errors] == [pb.ERROR_CODE_ALREADY_EXISTS]
    assert sum(len(answer.delta.tokens) for answer in answers) == 30
    assert answers[-1].WhichOneof("event") == "usage"


def test_a_time_limit_ends_with_what_there_is(idle: Product) -> None:
    request = greedy([5, 6, 7], LONG)
    request.stopping.time_limit_ms = 150
    with idle.generation() as stub:
        answer = stub.Generate(request)
    assert answer.outputs[0].finished.reason == pb.FINISH_REASON_TIME_LIMIT
    assert 0 < len(answer.outputs[0].tokens) < LONG


def test_a_deadline_is_a_status(idle: Product) -> None:
    with idle.generation() as stub:
        started = time.monotonic()
        with pytest.raises(grpc.RpcError) as failed:
            stub.Generate(greedy([5, 6, 7], LONG), timeout=0.2)
    assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - started < 2
