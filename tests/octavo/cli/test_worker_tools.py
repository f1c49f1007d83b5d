"""A tool is run in this terminal, and ended with it."""

from __future__ import annotations

import os
import sys

from octavo.cli.worker_tools import run_here

# Ends the command that started it, as `kill` would, and waits for what that does.
PROGRAM = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
os.kill(os.getppid(), signal.SIGTERM)
time.sleep(10)
"""


def test_the_exit_status_is_the_programs_own() -> None:
    assert run_here([sys.executable, "-c", "raise SystemExit(3)"], dict(os.environ)) == 3


def test_sigterm_is_handed_on_so_that_the_program_can_clean_up() -> None:
    assert run_here([sys.executable, "-c", PROGRAM], dict(os.environ)) == 7
