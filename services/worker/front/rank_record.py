"""What the front knows of one rank of a generation: its process, its activity, how it ended."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import time
from pathlib import Path

from services.worker.link.messages import (
    Failure,
    Heartbeat,
    Hello,
    Message,
    Progress,
    Ready,
    encode,
)


class RankRecord:
    """One rank, from its Hello on. Signals go through a pidfd: never to a reused process id."""

    def __init__(self, hello: Hello, writer: asyncio.StreamWriter) -> None:
        self.rank = hello.rank
        self.pid = hello.pid
        self.pidfd = os.pidfd_open(hello.pid)
        self.progress = Progress(stage="starting", loaded_bytes=0, total_bytes=0)
        self.ready: Ready | None = None
        self.heartbeat = Heartbeat(activity="loading", activity_ms=0, limit_ms=0)
        self.heartbeat_at = time.monotonic()
        self.failure: Failure | None = None
        self.death_cause: str | None = None  # as the kernel tells; read as soon as it is dead
        self._writer = writer

    @property
    def heartbeat_age_s(self) -> float:
        """Seconds since the last sign of life."""
        return time.monotonic() - self.heartbeat_at

    @property
    def activity_ms(self) -> int:
        """How long the rank has done what it does, as of now."""
        return self.heartbeat.activity_ms + int(self.heartbeat_age_s * 1000)

    def note(self, message: Message) -> None:
        """Keeps what the rank said about itself."""
        self.heartbeat_at = time.monotonic()
        if isinstance(message, Heartbeat):
            self.heartbeat = message
        elif isinstance(message, Progress):
            self.progress = message
        elif isinstance(message, Ready):
            self.ready = message
            self.heartbeat = Heartbeat(activity="idle", activity_ms=0, limit_ms=0)
        elif isinstance(message, Failure):
            self.failure = message

    @property
    def num_unread_bytes(self) -> int:
        """Bytes that were sent and that the rank has not taken."""
        return self._writer.transport.get_write_buffer_size()

    def send(self, message: Message) -> None:
        """Queues a message; never waits. A rank that is gone misses it."""
        if not self._writer.is_closing():
            self._writer.write(encode(message))

    def is_dead(self) -> bool:
        """Whether the process has ended: its pidfd is then readable."""
        if self.death_cause is None:
            poll = select.poll()
            poll.register(self.pidfd, select.POLLIN)
            if poll.poll(0):
                self.death_cause = describe_exit(_exit_code_of_zombie(self.pid))
        return self.death_cause is not None

    @property
    def end_cause(self) -> str:
        """Why the rank ended: its own words, or what the kernel says."""
        if self.failure is not None:
            return self.failure.cause
        return self.death_cause or "its process ended"

    def kill(self) -> None:
        """SIGKILL, which a stopped process cannot delay either."""
        if not self.is_dead():
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def close(self) -> None:
        """Lets go of the process, which is dead, and of the connection."""
        self.death_cause = self.death_cause or "its process ended"
        self._writer.close()
        os.close(self.pidfd)


def describe_exit(status: int | None) -> str:
    """A wait status in words."""
    if status is None:
        return "its process ended"
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        hint = " (the kernel's, if memory ran out)" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{hint}"
    return f"its process ended with status {os.waitstatus_to_exitcode(status)}"


def _exit_code_of_zombie(pid: int) -> int | None:
    """The wait status of a process that its parent has not collected yet; None where it has.

    It is the last field of /proc/PID/stat (proc_pid_stat(5)). The front is not the parent, and so
    cannot wait for it.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[-1]) if fields[0] == "Z" else None
