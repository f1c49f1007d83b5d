"""Runs the program that downloads, for a process that has nothing else to do until it is done."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from octavo.errors import FailedPreconditionError
from octavo.tether import tethered

FETCH = (sys.executable, "-m", "octavo.hub", "--relayed")


def fetch_command(name: str, revision: str | None, command: Sequence[str] = FETCH) -> list[str]:
    """The command line that prints the folder of the model `name`."""
    flags = [] if revision is None else [f"--revision={revision}"]
    return [*command, *flags, "--", name]


def fetch(name: str, revision: str | None) -> Path:
    """The folder of the model; progress goes to this process's stderr. Raises OctavoError."""
    done = subprocess.run(
        tethered(fetch_command(name, revision)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        reason = lines[-1] if lines else f"the download ended with status {done.returncode}"
        raise FailedPreconditionError(f"{reason}.", reason="HUB_MODEL_UNAVAILABLE")
    return Path(lines[-1])
