"""Runs a command that ends when the process that started it ends, however that happens.

Run by path, so that it starts in milliseconds: `python -I -S tether.py PARENT_PID COMMAND...`. The
kernel is told to kill this process when its parent ends, and the order survives `exec`. Setting it
here and not between fork and exec keeps the parent free to have threads. The kernel goes by the
parent's thread: start children from a thread that lasts.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def tethered(command: Sequence[str]) -> list[str]:
    """`command`, tied to the process that calls this."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def _main(parent: int, command: list[str]) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the kernel was told
        sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606 - a list of our own making, no shell


if __name__ == "__main__":
    _main(int(sys.argv[1]), sys.argv[2:])
