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

from octavo.client.connection import first_to_end
from octavo.client.tokenizer_types import DecoderOptions, Piece, StopMatch
from octavo.errors import OctavoError, UnavailableError, error_from_code
from octavo.v1 import tokenizer_pb2 as pb

if TYPE_CHECKING:  # subscripts that exist in the stubs only
    DecodeCall = grpc.aio.StreamStreamCall[pb.StreamDecodeRequest, pb.StreamDecodeResponse]

FRAMES_IN_FLIGHT = 4
STALL_S = 30.0


class PieceSink(Protocol):
    """Who hears about a decoder. Called by the reader: must return at once."""

    def decoded(self, piece: Piece) -> None:
        """Takes what came of ids that were fed, in the order in which they were fed."""

    def fail(self, error: OctavoError) -> None:
        """Takes the failure of the decoder, after which nothing comes."""


class Decoder:
    """One output that is being decoded."""

    def __init__(
        self,
        sink: PieceSink,
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
        self._frame = pb.StreamDecodeRequest()
        self._fed: dict[int, pb.DecodeEntry] = {}
        self._filled = asyncio.Event()
        self._slots = asyncio.Semaphore(FRAMES_IN_FLIGHT)
        self._num_written = 0
        self._num_answered = 0

    def open(self, options: DecoderOptions, sink: PieceSink) -> Decoder:
        """A new decoder; the tokenizer hears of it with the next frame."""
        key = next(self._keys)
        decoder = Decoder(sink, feed=partial(self._feed, key), close=partial(self._close, key))
        self._decoders[key] = decoder
        self._frame.opens.add(
            key=key,
            prompt_tail_ids=options.prompt_tail_ids,
            stop_texts=options.stop_texts,
            include_stop=options.include_stop,
            token_bytes=options.token_bytes,
            min_token_count=options.min_tokens or None,
        )
        return decoder

    def fail(self, error: OctavoError) -> None:
        """Ends all decoders with `error` and starts anew."""
        decoders, self._decoders = self._decoders, {}
        self._take_frame()
        self._filled.clear()
        for decoder in decoders.values():
            decoder.sink.fail(error)

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
        if key not in self._decoders:
            return
        entry = self._fed.get(key)
        if entry is None:
            entry = self._fed[key] = self._frame.entries.add(key=key)
        entry.token_ids.extend(token_ids)
        entry.last = last
        self._filled.set()

    def _close(self, key: int) -> None:
        if self._decoders.pop(key, None) is not None:
            self._frame.closed_keys.append(key)
            self._filled.set()

    async def _write(self, call: DecodeCall) -> None:
        while True:
            await self._filled.wait()
            await self._slots.acquire()
            self._filled.clear()
            frame = self._take_frame()
            self._num_written += 1
            for entry in frame.entries:
                if (decoder := self._decoders.get(entry.key)) is not None:
                    decoder.unanswered.append((tuple(entry.token_ids), entry.last))
            # Not wait_for: before Python 3.12 it can swallow a cancel.
            async with asyncio.timeout(STALL_S):
                await call.write(frame)

    def _take_frame(self) -> pb.StreamDecodeRequest:
        frame, self._frame = self._frame, pb.StreamDecodeRequest()
        self._fed = {}
        return frame

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
