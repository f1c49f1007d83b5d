"""One StreamDecode call: frames in, one answer for each, in order.

The reader never waits for the writer. What a peer does not read waits here, in bounds: past them
the call ends, since a gateway that reads nothing decodes for nobody.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable

from octavo.errors import ResourceExhaustedError
from octavo.v1 import tokenizer_pb2 as pb

MAX_UNREAD_BYTES = 8 * 1024 * 1024
STALL_LIMIT_S = 30.0
_RETRY_DELAY_MS = 1_000

Answer = Callable[[pb.StreamDecodeRequest], Awaitable[pb.StreamDecodeResponse]]
Write = Callable[[pb.StreamDecodeResponse], Awaitable[None]]


class FrameStream:
    """The answers of one call on their way out."""

    def __init__(
        self, *, max_unread_bytes: int = MAX_UNREAD_BYTES, stall_limit_s: float = STALL_LIMIT_S
    ) -> None:
        self._max_unread_bytes = max_unread_bytes
        self._stall_limit_s = stall_limit_s
        self._unread: deque[pb.StreamDecodeResponse] = deque()
        self._num_unread_bytes = 0
        self._changed = asyncio.Event()
        self._all_read = False

    async def carry(
        self, frames: AsyncIterator[pb.StreamDecodeRequest], answer: Answer, write: Write
    ) -> None:
        """Runs until the peer has closed its side and has all answers; raises OctavoError."""
        reader = asyncio.create_task(self._read(frames, answer))
        writer = asyncio.create_task(self._write(write))
        pending: set[asyncio.Task[None]] = {reader, writer}
        try:
            while pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            reader.cancel()
            writer.cancel()
            await asyncio.gather(reader, writer, return_exceptions=True)

    async def _read(self, frames: AsyncIterator[pb.StreamDecodeRequest], answer: Answer) -> None:
        async for frame in frames:
            self._put(await answer(frame))
        self._all_read = True
        self._changed.set()

    def _put(self, answer: pb.StreamDecodeResponse) -> None:
        num_bytes = answer.ByteSize()
        if self._unread and self._num_unread_bytes + num_bytes > self._max_unread_bytes:
            raise _unread(f"more than {self._max_unread_bytes} bytes wait")
        self._unread.append(answer)
        self._num_unread_bytes += num_bytes
        self._changed.set()

    async def _write(self, write: Write) -> None:
        while True:
            while self._unread:
                try:
                    # Not wait_for: before Python 3.12 it can swallow a cancel.
                    async with asyncio.timeout(self._stall_limit_s):
                        await write(self._unread[0])
                except TimeoutError:
                    raise _unread(f"one waits for more than {self._stall_limit_s:g} s") from None
                self._num_unread_bytes -= self._unread.popleft().ByteSize()
            if self._all_read:
                return
            await self._changed.wait()
            self._changed.clear()


def _unread(limit: str) -> ResourceExhaustedError:
    return ResourceExhaustedError(
        f"The answers of StreamDecode are not read: {limit}.",
        reason="SLOW_READER",
        metadata={"limit": limit},
        retry_delay_ms=_RETRY_DELAY_MS,
    )
