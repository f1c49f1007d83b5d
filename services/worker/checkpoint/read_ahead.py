"""Files read in their own order, ahead of a model that asks for tensors in another.

A disk gives most to who reads on and on; a model stops to look at every tensor, and jumps. What is
read here is kept by the system (the page cache), in no memory of this process but one buffer.

    file    |=== loaded ===|== read, at most _LEAD_BYTES more ==|           |
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from threading import Condition, Thread

_CHUNK_BYTES = 2 * 2**20
_LEAD_BYTES = 512 * 2**20  # more than a layer of a model of 30 GB: its matrices come in any order


class ReadAhead:
    """Starts with `start`. Never fails: what cannot be read is for the loader to say."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        self._changed = Condition()
        self._allowed_bytes = _LEAD_BYTES
        self._ended = False
        self._thread = Thread(target=self._read_files, name="read-ahead", daemon=True)

    def start(self) -> None:
        """Begins with the first file."""
        self._thread.start()

    def advance(self, num_bytes: int) -> None:
        """So many more are loaded."""
        with self._changed:
            self._allowed_bytes += num_bytes
            self._changed.notify()

    def close(self) -> None:
        """Ends it, wherever it is."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join()

    def _read_files(self) -> None:
        chunk, done = memoryview(bytearray(_CHUNK_BYTES)), 0
        for path in self._files:
            try:
                file = os.open(path, os.O_RDONLY)
            except OSError:
                return
            try:
                done += self._read_file(file, chunk, done)
            except OSError:
                return
            finally:
                os.close(file)

    def _read_file(self, file: int, chunk: memoryview, done: int) -> int:
        """The bytes of the file, or those before it was ended; `done` were read of others."""
        size = os.fstat(file).st_size
        for start in range(0, size, _CHUNK_BYTES):
            if not self._may_go_on(done + start):
                return start
            last = min(start + _CHUNK_BYTES, size) - 1
            # The first byte first: asking for it makes the system read on from there.
            if not (_is_in_memory(file, start) and _is_in_memory(file, last)):
                os.preadv(file, [chunk], start)
        return size

    def _may_go_on(self, done: int) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._ended or done < self._allowed_bytes)
            return not self._ended


def _is_in_memory(file: int, place: int) -> bool:
    """Whether a byte is read without the disk; False too where the file system cannot say."""
    try:
        return os.preadv(file, [bytearray(1)], place, os.RWF_NOWAIT) == 1
    except OSError:
        return False
