"""Processes that end with their parent."""

from __future__ import annotations

import os
import select
import subprocess
import sys

from services.worker.link.parent_death import PARENT_PID

CHILD = (
    "from services.worker.link.parent_death import die_with_parent; die_with_parent();"
    "import os, signal; print(os.getpid(), flush=True); signal.pause()"
)
PARENT = (
    "import os, subprocess, sys; os.environ['{name}'] = str(os.getpid());"
    "subprocess.Popen([sys.executable, '-c', {child!r}]).wait()"
)


def test_a_process_whose_parent_is_another_ends_at_once() -> None:
    environment = {**os.environ, PARENT_PID: "1"}
    done = subprocess.run([sys.executable, "-c", CHILD], env=environment, check=False, timeout=30)
    assert done.returncode == 1


def test_kill_9_of_the_parent_ends_the_child() -> None:
    code = PARENT.format(name=PARENT_PID, child=CHILD)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pidfd = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        assert poll.poll(5_000)
        os.close(pidfd)
