"""Loads a checkpoint in a process of its own and prints what memory it took, as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from services.worker.models import load_model


def kib(key: str) -> int:
    """A line of /proc/self/status: VmRSS, what is used now; VmHWM, the most since the reset."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def main() -> None:
    small, folder = map(Path, sys.argv[1:])
    torch.set_num_threads(1)
    load = {"device": torch.device("cpu"), "dtype": torch.bfloat16, "backend": "reference"}
    load_model(small, **load)  # type: ignore[arg-type]  # what libraries take once
    before = kib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak (proc_pid_clear_refs(5))
    model = load_model(folder, **load)  # type: ignore[arg-type]
    peak, after = kib("VmHWM"), kib("VmRSS")
    print(json.dumps({"before": before, "peak": peak, "after": after}))
    assert model is not None


if __name__ == "__main__":
    main()
