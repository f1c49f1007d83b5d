from __future__ import annotations

import os
import subprocess
import sys

from octavo.tether import tethered
from tests.octavo.launcher.processes import is_running, wait_until

# Starts a child that would run for long, says its id, and waits.
PARENT = """
import subprocess, sys
from octavo.tether import tethered
child = subprocess.Popen(tethered([sys.executable, "-c", "import time; time.sleep(600)"]))
print(child.pid, flush=True)
child.wait()
"""


def test_the_command_runs_with_its_arguments_and_status() -> None:
    script = "import sys; print(sys.argv[1:]); sys.exit(7)"
    result = subprocess.run(
        tethered([sys.executable, "-c", script, "a b", "-c"]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout == "['a b', '-c']\n"
    assert result.returncode == 7


def test_a_killed_parent_takes_it_along() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert is_running(child)
        parent.kill()
    wait_until(lambda: not is_running(child))


def test_a_parent_that_is_gone_already_is_noticed() -> None:
    command = tethered([sys.executable, "-c", "print('ran')"])
    command[command.index(str(os.getpid()))] = "1"
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stdout == ""
