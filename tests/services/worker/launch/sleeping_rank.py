"""A rank that does nothing: says its process id and waits, or ends with the status FAKE_STATUS."""

from __future__ import annotations

import os
import signal
import sys

from services.worker.link.parent_death import die_with_parent

if __name__ == "__main__":
    die_with_parent()
    os.write(1, f"{os.getpid()}\n".encode())  # at once: two ranks share the pipe
    if "FAKE_STATUS" in os.environ:
        sys.exit(int(os.environ["FAKE_STATUS"]))
    signal.pause()
