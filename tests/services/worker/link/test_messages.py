"""Framing of the link."""

from __future__ import annotations

import asyncio
import struct

import pytest

from octavo.v1 import worker_pb2
from services.worker.link.messages import (
    MAX_FRAME_BYTES,
    Failure,
    Heartbeat,
    Hello,
    LinkError,
    Message,
    Progress,
    Ready,
    Stop,
    encode,
    read_message,
)

READY = Ready(
    max_context_tokens=512,
    vocabulary_size=320,
    eos_token_ids=[1, 2],
    temperature=0.7,
    top_p=None,
    top_k=None,
    dtype="bfloat16",
    numerics_fingerprint="f",
    kv_blocks=8,
    kv_block_tokens=16,
)
MESSAGES: list[Message] = [
    Hello(rank=1, pid=2, generation=3),
    Progress(stage="loading", loaded_bytes=1, total_bytes=2),
    READY,
    Heartbeat(activity="stepping", activity_ms=5, limit_ms=60),
    Failure(cause="ValueError: é", permanent=True),
    Stop(),
    worker_pb2.RunRequest(submit=worker_pb2.Submit(key=7, prompt_token_ids=[1, 2])),
    worker_pb2.RunResponse(sequence=1, items=[worker_pb2.RunItem(key=7, token_ids=[3])]),
]


def reader_of(data: bytes) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    return reader


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
async def test_every_message_survives_the_wire(message: Message) -> None:
    assert await read_message(reader_of(encode(message))) == message


async def test_frames_follow_each_other_and_end_with_none() -> None:
    reader = reader_of(b"".join(encode(message) for message in MESSAGES))
    read = [await read_message(reader) for _ in MESSAGES]
    assert read == MESSAGES
    assert await read_message(reader) is None


async def test_a_frame_cut_short_reads_as_a_closed_link() -> None:
    assert await read_message(reader_of(encode(Stop())[:-1])) is None


@pytest.mark.parametrize(
    "frame",
    [
        struct.pack(">IB", MAX_FRAME_BYTES + 1, 1),
        struct.pack(">IB", 0, 1),
        struct.pack(">IB", 3, 9) + b"ab",
        struct.pack(">IB", 3, 1) + b"{]",
        struct.pack(">IB", 3, 1) + b"[]",
        struct.pack(">IB", 3, 2) + b"\xff\xff",
        struct.pack(">IB", 16, 1) + b'{"type": "Ufo"}',
        struct.pack(">IB", 23, 1) + b'{"type":"Stop","no": 1}'[:22],
    ],
)
async def test_a_broken_frame_is_an_error(frame: bytes) -> None:
    with pytest.raises(LinkError):
        await read_message(reader_of(frame))


def test_an_oversize_frame_is_never_written() -> None:
    with pytest.raises(LinkError, match="above"):
        encode(Failure(cause="x" * MAX_FRAME_BYTES, permanent=False))
