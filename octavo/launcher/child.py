"""One service as a process: its output, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import logging.handlers
import os
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from octavo.tether import tethered

_TAIL_LINES = 20
_LOG_BYTES = 8 * 1024 * 1024
_LINE_BYTES = 64 * 1024
_OUTPUT_LIMIT_S = 1.0


class Child:
    """A process in a session of its own: a Ctrl-C reaches only us, and we end it in good order.

    Its output goes to `log` (two files of 8 MiB at most) and to `on_line`.
    """

    def __init__(
        self,
        name: str,
        process: asyncio.subprocess.Process,
        output: asyncio.StreamReader,
        log: Path,
        on_line: OnLine,
    ) -> None:
        self.name = name
        self.log = log
        self._process = process
        self._output = output
        self._on_line = on_line
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._ended = asyncio.create_task(self._watch())

    @classmethod
    async def start(
        cls,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: Path,
        on_line: OnLine,
    ) -> Child:
        """Starts `command`, which ends with this process at the latest."""
        # A pipe of our own: with asyncio's, the end of a process counts only once every process
        # that inherited the pipe has ended too.
        read_end, write_end = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *tethered(command),
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=write_end,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        finally:
            os.close(write_end)
        return cls(name, process, await _reader(read_end), log, on_line)

    @property
    def tail(self) -> list[str]:
        """The last lines of its output."""
        return list(self._tail)

    async def ended(self) -> int:
        """Waits for the end; the exit status, negative for a signal."""
        return await asyncio.shield(self._ended)

    async def stop(self, limit_s: float) -> None:
        """Asks it to drain and end; kills it after `limit_s`."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        await asyncio.wait([self._ended], timeout=limit_s)
        self.kill()
        await self.ended()

    def kill(self) -> None:
        """Kills it and what it started in its session."""
        if not self._ended.done():
            self._kill_group()

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def _watch(self) -> int:
        output = asyncio.create_task(self._read_output())
        status = await self._process.wait()
        self._kill_group()  # what outlived it would keep memory, ports and the pipe
        await asyncio.wait([output], timeout=_OUTPUT_LIMIT_S)
        output.cancel()
        return status

    async def _read_output(self) -> None:
        rest = b""
        with contextlib.closing(_RotatingLog(self.log)) as log:
            while chunk := await self._output.read(_LINE_BYTES):
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > _LINE_BYTES:  # a line without an end must not fill our memory
                    lines, rest = [*lines, rest], b""
                for line in lines:
                    self._take_line(line, log)
            if rest:
                self._take_line(rest, log)

    def _take_line(self, raw: bytes, log: _RotatingLog) -> None:
        line = raw.decode("utf-8", "replace").rstrip("\r")
        if line.strip():
            self._tail.append(line)
        log.write(line)
        self._on_line(self.name, line)


OnLine = Callable[[str, str], None]


async def _reader(file_descriptor: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    pipe = os.fdopen(file_descriptor, "rb", buffering=0)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    return reader


class _RotatingLog:
    """Lines in a file that starts anew when it is full; the one before is kept."""

    def __init__(self, path: Path) -> None:
        self._handler = logging.handlers.RotatingFileHandler(
            path, maxBytes=_LOG_BYTES, backupCount=1, encoding="utf-8"
        )

    def write(self, line: str) -> None:
        self._handler.handle(logging.makeLogRecord({"msg": line}))

    def close(self) -> None:
        self._handler.close()
