"""Ties the life of a process to its parent's, so that a killed front leaves no orphans."""

from __future__ import annotations

import ctypes
import os
import signal

PARENT_PID = "OCTAVO_PARENT_PID"  # environment: the process that started this one

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent() -> None:
    """Lets the kernel kill this process when its parent ends; ends it now where that is too late.

    The kernel's signal is lost when the parent dies between the start of this process and the
    call, hence the comparison after it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != int(os.environ[PARENT_PID]):
        os._exit(1)
