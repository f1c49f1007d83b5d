"""What every results file says besides its figures: device, commit, command, date."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any


def record(benchmark: str, model: Path, output: Path | None, **values: Any) -> None:
    """Prints the result as one line of JSON, the last, and writes it to `output` where given."""
    # Folders of this machine say nothing elsewhere.
    named = (Path(each).name if Path(each).is_absolute() else each for each in sys.argv[1:])
    arguments = shlex.join(named).replace(str(model), model.name)
    result = {
        "benchmark": benchmark,
        "device": f"{_processor()}, {os.cpu_count()} cores",
        "torch": importlib.metadata.version("torch"),
        "commit": _commit(),
        "command": f"python -m benchmarks.{benchmark} {arguments}".rstrip(),
        "date": dt.datetime.now(tz=dt.UTC).isoformat(timespec="seconds"),
        "model": model.name,
        **values,
    }
    if output is not None:
        output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))


def _processor() -> str:
    """The processor, as Linux names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), "unknown")


def _commit() -> str:
    """The commit that was measured, with a mark where the tree had changes."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],  # noqa: S607  # whichever git
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or "unknown"
