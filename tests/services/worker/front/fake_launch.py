"""A launcher without torch: starts the fake ranks and ends with the first that fails."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from services.worker.link.parent_death import PARENT_PID, die_with_parent


def main() -> int:
    die_with_parent()
    os.environ[PARENT_PID] = str(os.getpid())
    command = [sys.executable, "-m", "tests.services.worker.front.fake_rank"]
    ranks = [
        subprocess.Popen(command, env={**os.environ, "RANK": str(rank)}, start_new_session=True)
        for rank in range(int(sys.argv[1]))
    ]
    while any(process.poll() is None for process in ranks):
        if any(process.poll() for process in ranks):
            return 1
        time.sleep(0.02)
    return max(process.returncode != 0 for process in ranks)


if __name__ == "__main__":
    sys.exit(main())
