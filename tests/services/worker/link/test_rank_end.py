"""The rank's end of the link."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from octavo.v1 import worker_pb2
from services.worker.link.messages import (
    HEADER,
    Failure,
    Heartbeat,
    Message,
    Progress,
    Stop,
    decode,
    encode,
    split_header,
)
from services.worker.link.rank_end import RankEnd

Ends = tuple[RankEnd, socket.socket]


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[Ends]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "link"))
        listener.listen()
        rank_end = RankEnd(str(tmp_path / "link"))
        front_end, _ = listener.accept()
        with front_end:
            front_end.settimeout(10)
            yield rank_end, front_end
            rank_end.close(1)


def read(front_end: socket.socket) -> Message:
    with front_end.makefile("rb", buffering=0) as stream:
        size, kind = split_header(stream.read(HEADER.size))
        data = b""
        while len(data) < size:
            data += stream.read(size - len(data))
    return decode(kind, data)


def response(*ids: int) -> worker_pb2.RunResponse:
    item = worker_pb2.RunItem(key=1, token_ids=ids)
    return worker_pb2.RunResponse(items=[item], load=worker_pb2.Load(step=len(ids)))


def test_sends_and_receives(ends: Ends) -> None:
    rank_end, front_end = ends
    rank_end.send(Stop())
    assert read(front_end) == Stop()
    front_end.sendall(encode(Stop()) + encode(worker_pb2.RunRequest()))
    messages = rank_end.messages()
    assert next(messages) == Stop()
    assert next(messages) == worker_pb2.RunRequest()
    front_end.shutdown(socket.SHUT_RDWR)
    assert list(messages) == []


def test_steps_never_wait_and_unread_responses_are_merged(ends: Ends) -> None:
    rank_end, front_end = ends
    num_steps = 50_000  # more than the socket's buffers hold
    for step in range(num_steps):
        rank_end.send_response(response(step))
    ids: list[int] = []
    num_frames = 0
    while len(ids) < num_steps:
        message = read(front_end)
        assert isinstance(message, worker_pb2.RunResponse)
        ids += message.items[0].token_ids
        num_frames += 1
    assert ids == list(range(num_steps))
    assert num_frames < num_steps


def test_a_failure_follows_what_the_steps_gave(ends: Ends) -> None:
    rank_end, front_end = ends
    rank_end.send_response(response(1))
    rank_end.send(Failure(cause="x", permanent=False))
    rank_end.close(5)
    assert read(front_end) == response(1)
    assert read(front_end) == Failure(cause="x", permanent=False)


def test_of_heartbeats_that_were_not_read_only_the_newest_waits(ends: Ends) -> None:
    rank_end, front_end = ends
    large = Progress(stage="x" * 2**20, loaded_bytes=0, total_bytes=0)  # fills the socket's buffers
    rank_end.send(large)
    for age in range(100_000):
        rank_end.send(Heartbeat(activity="idle", activity_ms=age, limit_ms=0))
    assert read(front_end) == large
    ages: list[int] = []
    while not ages or ages[-1] < 99_999:
        beat = read(front_end)
        assert isinstance(beat, Heartbeat)
        ages.append(beat.activity_ms)
    assert len(ages) < 10


def test_a_front_that_never_reads_counts_as_gone(ends: Ends) -> None:
    rank_end, _ = ends
    data = response(*([2**31] * 200_000)).SerializeToString()
    for _ in range(20):
        rank_end.send_response(worker_pb2.RunResponse.FromString(data))
    assert list(rank_end.messages()) == []
