"""Many decoders on one StreamDecode stream: one frame out and one frame back per worker step.

Ids that are fed without a pause between them go into one frame. While FRAMES_IN_FLIGHT frames are
unanswered, what is fed is merged per decoder and waits, so that a slow tokenizer costs memory
bounded by the outputs themselves. The reader never waits for the writer.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

import grpc.aio

from octavo.client.services.connection import first_to_end
from octavo.client.services.decode_outbox import DecodeOutbox
from octavo.client.services.tokenizer_types import DecodedSoFar, DecoderOptions, Piece, StopMatch
from octavo.errors import OctavoError, UnavailableError, error_from_code
from octavo.v1 import tokenizer_pb2 as pb

if TYPE_CHECKING:  # subscripts that exist in the stubs only
    DecodeCall = grpc.aio.StreamStreamCall[pb.StreamDecodeRequest, pb.StreamDecodeResponse]

FRAMES_IN_FLIGHT = 4
STALL_S = 30.0


class DecoderSink(Protocol):
    """Who hears about a decoder. Called by the reader: must return at once."""

    def decoded(self, piece: Piece) -> None:
        """Takes what came of ids that were fed, in the order in which they were fed."""

    def fail(self, error: OctavoError) -> None:
        """Takes the tokenizer's refusal, after which nothing comes."""

    def lose(self, error: OctavoError) -> None:
        """Hears that the decoder was lost with its tokenizer, after which nothing comes."""


class Decoder:
    """One output that is being decoded."""

    def __init__(
        self,
        sink: DecoderSink,
        *,
        feed: Callable[[Sequence[int], bool], None],
        close: Callable[[], None],
    ) -> None:
        self.sink = sink
        self._feed = feed
        self._close = close
        self.unanswered: deque[tuple[Sequence[int], bool]] = deque()

    def feed(self, token_ids: Sequence[int], *, last: bool) -> None:
        """Decodes more ids; with `last` what is held back comes too and the decoder is gone."""
        self._feed(token_ids, last)

    def close(self) -> None:
        """Drops the decoder; nothing more is heard of it."""
        self._close()


class DecodeStream:
    """The decoders of one connection."""

    def __init__(self) -> None:
        self._keys = itertools.count(1)
        self._decoders: dict[int, Decoder] = {}
        self._outbox = DecodeOutbox()
        self._slots = asyncio.Semaphore(FRAMES_IN_FLIGHT)
        self._num_written = 0
        self._num_answered = 0

    @property
    def num_open(self) -> int:
        """Counts the decoders that are open."""
        return len(self._decoders)

    def open(self, options: DecoderOptions, sink: DecoderSink, so_far: DecodedSoFar) -> Decoder:
        """A new decoder; the tokenizer hears of it with its first ids."""
        key = next(self._keys)
        decoder = Decoder(sink, feed=partial(self._feed, key), close=partial(self._close, key))
        self._decoders[key] = decoder
        self._outbox.open(key, options, so_far)
        return decoder

    def open_now(self) -> None:
        """Lets the tokenizer hear of decoders whose first ids have yet to come."""
        self._outbox.open_now()

    def lose(self, error: OctavoError) -> None:
        """Ends all decoders with `error` and starts anew."""
        decoders, self._decoders = self._decoders, {}
        self._outbox = DecodeOutbox()
        for decoder in decoders.values():
            decoder.sink.lose(error)

    async def run(self, call: DecodeCall) -> None:
        """Writes frames and hands out the answers until the stream is lost."""
        self._slots = asyncio.Semaphore(FRAMES_IN_FLIGHT)
        self._num_written = self._num_answered = 0
        await first_to_end(
            asyncio.create_task(self._read(call)),
            asyncio.create_task(self._write(call)),
            asyncio.create_task(self._notice_stall()),
        )

    def _feed(self, key: int, token_ids: Sequence[int], last: bool) -> None:
        if key in self._decoders:
            self._outbox.feed(key, token_ids, last=last)

    def _close(self, key: int) -> None:
        if self._decoders.pop(key, None) is not None:
            self._outbox.close(key)

    async def _write(self, call: DecodeCall) -> None:
        outbox = self._outbox
        while True:
            await outbox.filled.wait()
            await self._slots.acquire()
            frame = outbox.take_frame()
            self._num_written += 1
            for entry in frame.entries:
                if (decoder := self._decoders.get(entry.key)) is not None:
                    decoder.unanswered.append((tuple(entry.token_ids), entry.last))
            # Not wait_for: before Python 3.12 it can swallow a cancel.
            async with asyncio.timeout(STALL_S):
                await call.write(frame)

    async def _read(self, call: DecodeCall) -> None:
        async for answer in call:
            self._slots.release()
            self._num_answered += 1
            for entry in answer.entries:
                self._deliver(entry)
        raise UnavailableError("the tokenizer ended its stream")

    async def _notice_stall(self) -> None:
        """Raises where frames wait for an answer and none came for STALL_S or more."""
        num_answered = -1
        while True:
            if self._num_written > self._num_answered == num_answered:
                raise UnavailableError(f"no frame was answered for {STALL_S:.0f} s")
            num_answered = self._num_answered
            await asyncio.sleep(STALL_S)

    def _deliver(self, entry: pb.DecodedEntry) -> None:
        decoder = self._decoders.get(entry.key)
        if decoder is None:  # closed here; what was under way is of no use
            return
        if entry.HasField("error"):
            del self._decoders[entry.key]
            decoder.sink.fail(_error_from_pb(entry.error))
            return
        token_ids, last = decoder.unanswered.popleft()
        stop = _stop_from_pb(entry.stop) if entry.HasField("stop") else None
        if last or stop is not None:
            del self._decoders[entry.key]
        decoder.sink.decoded(
            Piece(
                token_ids=token_ids,
                last=last,
                text=entry.text,
                token_bytes=tuple(entry.token_bytes),
                stop=stop,
            )
        )


def _stop_from_pb(stop: pb.StopMatch) -> StopMatch:
    return StopMatch(text=stop.text, token_index=stop.token_index)


def _error_from_pb(error: pb.DecoderError) -> OctavoError:
    return error_from_code(
        error.code, error.message, reason=error.reason or None, metadata=error.metadata
    )
