"""Tokenizers within the test's process that die as often as they are told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import cast

from octavo.client.services.decode_stream import Decoder, DecoderSink, DecodeStream
from octavo.client.services.tokenizer import TokenizerClient
from octavo.client.services.tokenizer_pool import TokenizerPool
from octavo.client.services.tokenizer_types import (
    DecodedSoFar,
    DecoderOptions,
    TokenizerDescription,
)
from octavo.errors import UnavailableError
from octavo.v1 import tokenizer_pb2 as pb
from services.tokenizer.backends import TokenizerBackend
from services.tokenizer.decode_session import DecodeSession

FINGERPRINT = "f"


class LocalTokenizer:
    """As much of a TokenizerClient as decoders use. `lives` says after how many answered frames it
    dies, again and again; the life after these does not end.
    """

    def __init__(self, backend: TokenizerBackend, lives: Iterator[int]) -> None:
        self.is_ready = False
        self.num_losses = 0
        self.description = TokenizerDescription(
            fingerprint=FINGERPRINT, vocabulary_size=9, has_chat_template=True, max_text_bytes=9
        )
        self._backend = backend
        self._lives = lives
        self._stream = DecodeStream()

    @property
    def num_open(self) -> int:
        return self._stream.num_open

    def open_decoder(
        self, options: DecoderOptions, sink: DecoderSink, so_far: DecodedSoFar
    ) -> Decoder:
        assert self.is_ready
        return self._stream.open(options, sink, so_far)

    async def live(self, pool: TokenizerPool) -> None:
        while True:
            self.is_ready = True
            pool.note_change()
            call = _Call(DecodeSession(self._backend, max_decoders=99), next(self._lives, None))
            try:
                await self._stream.run(call)  # type: ignore[arg-type] # as much of a call as is used
            except UnavailableError as error:
                self.is_ready = False
                self.num_losses += 1
                pool.note_change()
                self._stream.lose(error)
            await asyncio.sleep(0)  # dead for a moment


class _Call:
    """A StreamDecode call that breaks after some answers."""

    def __init__(self, session: DecodeSession, num_answers: int | None) -> None:
        self._session = session
        self._num_answers = num_answers
        self._frames: asyncio.Queue[pb.StreamDecodeRequest] = asyncio.Queue()

    async def write(self, frame: pb.StreamDecodeRequest) -> None:
        self._frames.put_nowait(frame)

    async def __aiter__(self) -> AsyncGenerator[pb.StreamDecodeResponse, None]:
        while self._num_answers is None or self._num_answers > 0:
            frame = await self._frames.get()
            await asyncio.sleep(0)
            yield self._session.answer(frame)
            if self._num_answers is not None:
                self._num_answers -= 1
        await self._frames.get()  # dies with a frame unanswered
        raise UnavailableError("killed", reason="TOKENIZER_LOST")


@asynccontextmanager
async def local_pool(
    backend: TokenizerBackend, lives: Sequence[int], *, num_tokenizers: int = 2, wait_s: float = 5
) -> AsyncIterator[TokenizerPool]:
    """A pool of tokenizers that share the lives."""
    left = iter(lives)
    tokenizers = [LocalTokenizer(backend, left) for _ in range(num_tokenizers)]
    pool = TokenizerPool(cast(list[TokenizerClient], tokenizers), wait_s=wait_s)
    living = [asyncio.create_task(tokenizer.live(pool)) for tokenizer in tokenizers]
    try:
        yield pool
    finally:
        for task in living:
            task.cancel()
        await asyncio.gather(*living, return_exceptions=True)
