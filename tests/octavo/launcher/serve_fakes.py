"""`octavo serve` with stand-ins for the services."""

from __future__ import annotations

import sys
from pathlib import Path

from octavo.cli.serve import run
from octavo.launcher.commands import Commands

FAKE = Path(__file__).with_name("fake_service.py")
PREPARE = """
import os, pathlib, sys, time
folder = pathlib.Path(os.environ["FAKES"])
print("preparing  1 / 2 MB", file=sys.stderr)
if (folder / "prepare.acts").exists():
    (folder / "prepare.pid").write_text(str(os.getpid()))
    act = (folder / "prepare.acts").read_text()
    if act == "fail":
        print("the disk is full")
        sys.exit(2)
    if act == "crash":
        sys.exit("prepare: Traceback")
    time.sleep(600)
print(folder / "model")
"""
FETCH = """
import os, pathlib, sys
if sys.argv[-1] == "tests/absent":
    print("tests/absent is not on the hub")
    sys.exit(2)
print(pathlib.Path(os.environ["FAKES"]) / "-".join(sys.argv[1:]).replace("/", "-"))
"""


def _fake(role: str) -> tuple[str, ...]:
    return (sys.executable, str(FAKE), role)


if __name__ == "__main__":
    commands = Commands(
        prepare=(sys.executable, "-c", PREPARE),
        fetch=(sys.executable, "-c", FETCH),
        tokenizer=_fake("tokenizer"),
        worker=_fake("worker"),
        gateway=_fake("gateway"),
    )
    sys.exit(run(sys.argv[1:], commands))
