"""Where lines of logs go: to a file descriptor, whole, or nowhere.

A log that is closed, full or not read must not end the process, and hold it up for a moment at
most. What cannot be written is dropped and counted.
"""

from __future__ import annotations

import logging
import os
import select

_PATIENCE_MS = 100
# A pipe that is ready takes this much without waiting (pipe(7)), and does not mix it with others'.
_CHUNK_BYTES = select.PIPE_BUF


class DroppingHandler(logging.Handler):
    """Writes each record as one line to `descriptor`.

    It waits for a reader once; while that one still does not read, it waits no more.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.num_dropped = 0
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._patience_ms = _PATIENCE_MS
        self._is_torn = False  # whether the last line was written in part

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one line. Never raises."""
        try:
            line = self.format(record).encode("utf-8", "backslashreplace") + b"\n"
            self._write(b"\n" + line if self._is_torn else line)
        except Exception:  # noqa: BLE001 - whatever a line cannot be, its process goes on
            self.num_dropped += 1

    def _write(self, line: bytes) -> None:
        num_written = 0
        try:
            while num_written < len(line):
                self._wait()
                chunk = line[num_written : num_written + _CHUNK_BYTES]
                num_written += os.write(self._descriptor, chunk)
            self._is_torn = False
        except OSError:
            self._is_torn = self._is_torn or num_written > 0
            raise

    def _wait(self) -> None:
        if self._poll.poll(self._patience_ms):
            self._patience_ms = _PATIENCE_MS
        else:
            self._patience_ms = 0
            raise BlockingIOError("nobody reads the log")
