"""Quantises a checkpoint in a process of its own and prints what memory it took, as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from services.worker.tools.quantize.__main__ import main as quantize
from tests.services.worker.checkpoint.loading_process import kib


def main() -> None:
    small, large, folder = map(Path, sys.argv[1:])
    torch.set_num_threads(1)
    assert quantize([str(small), str(folder / "small-fp8")]) == 0  # what libraries take once
    before = kib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak (proc_pid_clear_refs(5))
    assert quantize([str(large), str(folder / "large-fp8"), "--calibration-tokens=64"]) == 0
    print(json.dumps({"before": before, "peak": kib("VmHWM")}))


if __name__ == "__main__":
    main()
