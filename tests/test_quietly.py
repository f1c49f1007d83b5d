"""`.ci/quietly`, which `make setup` installs with: quiet where all is well, complete where not."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest

SPEAK = "echo first; echo second >&2; exit "


@pytest.mark.parametrize(("status", "told"), [(0, ""), (3, "first\nsecond\n")])
def test_what_fails_is_told_and_nothing_else(repository: Path, status: int, told: str) -> None:
    command = [str(repository / ".ci" / "quietly"), "sh", "-c", f"{SPEAK}{status}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", told)


def test_a_terminal_sees_the_newest_line_alone(repository: Path) -> None:
    ours, theirs = pty.openpty()
    command = [str(repository / ".ci" / "quietly"), "sh", "-c", f"{SPEAK}0"]
    status = subprocess.run(command, stdout=theirs, stderr=theirs, check=False).returncode
    os.close(theirs)
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    clear = "\r\x1b[K"
    assert (status, shown) == (0, f"{clear}  first{clear}  second{clear}")
