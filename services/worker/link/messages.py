"""What front and ranks say to each other over their Unix socket, and how it is framed.

A frame is its length (4 bytes, big-endian: kind and payload), its kind (1 byte) and its payload:
a control message as JSON, or a RunRequest or RunResponse as protobuf. Each rank has a connection
of its own, says Hello first, and then goes on without waiting for the front.

    rank -> front   Hello, Progress ..., Ready, Heartbeat ..., RunResponse ..., Failure
    front -> rank   RunRequest ..., Stop
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import struct
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import DecodeError

from octavo.v1 import worker_pb2

# A gRPC message may have 32 MiB; a submit grows by its new key only.
MAX_FRAME_BYTES = 33 * 1024 * 1024

HEADER = struct.Struct(">IB")
_CONTROL, _RUN_REQUEST, _RUN_RESPONSE = 1, 2, 3


class LinkError(Exception):
    """The other end broke the framing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Hello:
    """A rank has started. Comes before it imports anything large."""

    rank: int
    pid: int
    generation: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a rank has loaded."""

    stage: str
    loaded_bytes: int
    total_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Ready:
    """The rank can run steps; what it holds, in the terms of GetWorkerResponse."""

    max_context_tokens: int
    vocabulary_size: int
    eos_token_ids: list[int]
    temperature: float | None  # the checkpoint's own defaults
    top_p: float | None
    top_k: int | None
    dtype: str
    numerics_fingerprint: str
    kv_blocks: int
    kv_block_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Heartbeat:
    """What the rank does and since when; a step that passes limit_ms means a lost rank.

    Counts are since the rank's start. `step_counts` has one number a bucket (step_times.py), empty
    before the first heartbeat.
    """

    activity: str  # loading, idle or stepping
    activity_ms: int
    limit_ms: int
    step_counts: list[int] = field(default_factory=list)
    steps_s: float = 0.0
    log_lines_dropped: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Why the rank is about to end; permanent where another start would fail the same way."""

    cause: str
    permanent: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Stop:
    """Asks a rank to end after its step."""


Control = Hello | Progress | Ready | Heartbeat | Failure | Stop
Message = Control | worker_pb2.RunRequest | worker_pb2.RunResponse

_CONTROL_TYPES: dict[str, type[Control]] = {
    kind.__name__: kind for kind in (Hello, Progress, Ready, Heartbeat, Failure, Stop)
}


def encode(message: Message) -> bytes:
    """The message as one frame."""
    if isinstance(message, worker_pb2.RunRequest):
        kind, payload = _RUN_REQUEST, message.SerializeToString()
    elif isinstance(message, worker_pb2.RunResponse):
        kind, payload = _RUN_RESPONSE, message.SerializeToString()
    else:
        fields = {"type": type(message).__name__, **dataclasses.asdict(message)}
        kind, payload = _CONTROL, json.dumps(fields).encode()
    if len(payload) >= MAX_FRAME_BYTES:
        raise LinkError(f"a frame of {len(payload)} bytes is above {MAX_FRAME_BYTES}")
    return HEADER.pack(len(payload) + 1, kind) + payload


def split_header(header: bytes) -> tuple[int, int]:
    """The bytes of the payload and its kind."""
    length, kind = HEADER.unpack(header)
    if not 1 <= length <= MAX_FRAME_BYTES:
        raise LinkError(f"a frame of {length} bytes is not within 1 to {MAX_FRAME_BYTES}")
    return length - 1, kind


def decode(kind: int, payload: bytes) -> Message:
    """The message of one frame. Raises LinkError."""
    try:
        if kind == _RUN_REQUEST:
            return worker_pb2.RunRequest.FromString(payload)
        if kind == _RUN_RESPONSE:
            return worker_pb2.RunResponse.FromString(payload)
        if kind != _CONTROL:
            raise LinkError(f"{kind} is no kind of frame")
        fields: dict[str, Any] = json.loads(payload)
        return _CONTROL_TYPES[fields.pop("type")](**fields)
    except (DecodeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LinkError(f"a frame of kind {kind} cannot be decoded: {error!r}") from error


async def read_message(reader: asyncio.StreamReader) -> Message | None:
    """The front's end: the next message, None where the rank closed. Raises LinkError."""
    try:
        size, kind = split_header(await reader.readexactly(HEADER.size))
        return decode(kind, await reader.readexactly(size))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
