"""What a gateway writes to a worker: nobody who submits or cancels waits for the stream."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc.aio

from octavo.v1 import worker_pb2 as pb

if TYPE_CHECKING:  # subscripts that exist in the stubs only
    RunCall = grpc.aio.StreamStreamCall[pb.RunRequest, pb.RunResponse]

WRITE_STALL_S = 30.0


class RunOutbox:
    """What waits to be written: submits in order, and cancels merged into one message."""

    def __init__(self) -> None:
        self._submits: dict[int, pb.RunRequest] = {}
        self._cancels: set[int] = set()
        self._cancelled_outputs: set[tuple[int, int]] = set()
        self._filled = asyncio.Event()

    def submit(self, key: int, message: pb.RunRequest) -> None:
        """Hands a request over."""
        self._submits[key] = message
        self._filled.set()

    def cancel(self, key: int) -> None:
        """Ends a request early, once the worker has it."""
        self._cancels.add(key)
        self._filled.set()

    def cancel_output(self, key: int, index: int) -> None:
        """Of a request that is written: it has tokens."""
        self._cancelled_outputs.add((key, index))
        self._filled.set()

    def withdraw(self, key: int) -> bool:
        """Takes back a submit that was not written yet; False where it was."""
        return self._submits.pop(key, None) is not None

    def clear(self) -> None:
        """Forgets all: the stream is gone."""
        self._submits.clear()
        self._cancels.clear()
        self._cancelled_outputs.clear()

    async def write_to(self, call: RunCall) -> None:
        """Writes what comes, until the call ends or a write stalls."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            while (message := self._take()) is not None:
                # Not wait_for: before Python 3.12 it can swallow a cancel.
                async with asyncio.timeout(WRITE_STALL_S):
                    await call.write(message)

    def _take(self) -> pb.RunRequest | None:
        """The next message: a cancel comes after the submit of its key and before other submits."""
        written = self._cancels - self._submits.keys()
        outputs, self._cancelled_outputs = self._cancelled_outputs, set()
        if written or outputs:
            self._cancels -= written
            named = [pb.OutputKey(key=key, output_index=index) for key, index in sorted(outputs)]
            return pb.RunRequest(cancel=pb.Cancel(keys=sorted(written), outputs=named))
        for key in self._submits:
            return self._submits.pop(key)
        return None
