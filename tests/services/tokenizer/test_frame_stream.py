"""One StreamDecode call: answers in order, a reader that never waits, and bounds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from octavo.errors import InvalidArgumentError, ResourceExhaustedError
from octavo.v1 import tokenizer_pb2 as pb
from services.tokenizer.frame_stream import FrameStream


class Peer:
    """Sends frames, each with a key of its own, and reads answers while it may."""

    def __init__(self, num_frames: int, *, fails_after: bool = False) -> None:
        self._num_frames = num_frames
        self._fails_after = fails_after
        self.num_answered = 0
        self.read: list[int] = []
        self.reads = asyncio.Event()
        self.reads.set()
        self.all_sent = asyncio.Event()

    async def frames(self) -> AsyncIterator[pb.StreamDecodeRequest]:
        for key in range(self._num_frames):
            yield pb.StreamDecodeRequest(closed_keys=[key])
        if self._fails_after:
            raise InvalidArgumentError("no frame", reason="UNDECODABLE_MESSAGE")
        self.all_sent.set()

    async def answer(self, frame: pb.StreamDecodeRequest) -> pb.StreamDecodeResponse:
        await asyncio.sleep(0)
        self.num_answered += 1
        return pb.StreamDecodeResponse(
            entries=[pb.DecodedEntry(key=frame.closed_keys[0], text="x" * 100)]
        )

    async def write(self, answer: pb.StreamDecodeResponse) -> None:
        await self.reads.wait()
        self.read.append(answer.entries[0].key)


def keys(count: int) -> Sequence[int]:
    return list(range(count))


async def test_each_frame_is_answered_in_order_also_after_a_half_close() -> None:
    peer = Peer(50)
    await FrameStream().carry(peer.frames(), peer.answer, peer.write)
    assert peer.read == keys(50)


async def test_the_reader_never_waits_for_a_write() -> None:
    peer = Peer(50)
    peer.reads.clear()
    call = asyncio.create_task(FrameStream().carry(peer.frames(), peer.answer, peer.write))
    async with asyncio.timeout(10):
        await peer.all_sent.wait()
    assert peer.num_answered == 50
    assert not peer.read
    peer.reads.set()
    await call
    assert peer.read == keys(50)


async def test_answers_that_nobody_reads_are_bounded_in_bytes() -> None:
    peer = Peer(50)
    peer.reads.clear()
    stream = FrameStream(max_unread_bytes=1_000)
    with pytest.raises(ResourceExhaustedError, match="1000 bytes") as caught:
        await stream.carry(peer.frames(), peer.answer, peer.write)
    assert caught.value.reason == "SLOW_READER"
    assert peer.num_answered <= 10


async def test_one_answer_may_be_larger_than_the_bound() -> None:
    peer = Peer(1)
    await FrameStream(max_unread_bytes=10).carry(peer.frames(), peer.answer, peer.write)
    assert peer.read == [0]


async def test_answers_that_nobody_reads_are_bounded_in_time() -> None:
    peer = Peer(1)
    peer.reads.clear()
    with pytest.raises(ResourceExhaustedError, match=r"more than 0\.05 s") as caught:
        await FrameStream(stall_limit_s=0.05).carry(peer.frames(), peer.answer, peer.write)
    assert caught.value.reason == "SLOW_READER"
    assert caught.value.retry_delay_ms


async def test_an_error_of_the_reader_ends_the_call() -> None:
    peer = Peer(3, fails_after=True)
    peer.reads.clear()
    with pytest.raises(InvalidArgumentError):
        await FrameStream().carry(peer.frames(), peer.answer, peer.write)


async def test_nothing_is_left_when_the_call_is_cancelled() -> None:
    peer = Peer(3)
    peer.reads.clear()
    before = asyncio.all_tasks()
    call = asyncio.create_task(FrameStream().carry(peer.frames(), peer.answer, peer.write))
    await peer.all_sent.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert asyncio.all_tasks() == before
