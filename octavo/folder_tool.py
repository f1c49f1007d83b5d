"""A tool that prints the folder it has prepared: progress and problems go to stderr."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from octavo.status_line import StatusLine

ErrorT = TypeVar("ErrorT", bound=Exception)


def print_folder(
    program: str,
    prepare: Callable[[StatusLine], Path],
    *,
    refusal: type[ErrorT],
    problem_of: Callable[[ErrorT], str] = str,
    relayed: bool,
) -> int:
    """The exit status; 2 where `prepare` raises a `refusal`, which is one line. relayed: that line
    goes to stdout, for a parent to tell.
    """
    # SIGTERM like Ctrl-C: unwind, so that children end and nothing half-written stays.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    line = StatusLine(sys.stderr)
    try:
        folder = prepare(line)
    except refusal as error:
        line.close()
        if relayed:
            sys.stdout.write(f"{problem_of(error)}\n")
        else:
            sys.stderr.write(f"{program}: {problem_of(error)}\n")
        return 2
    except KeyboardInterrupt:
        line.close()
        return 130
    line.close()
    sys.stdout.write(f"{folder}\n")
    return 0
