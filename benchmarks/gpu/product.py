"""Part: the product on the device, through every door: benchmarks/serving.py, the quick way."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.gpu import model
from benchmarks.gpu.parts import Context

_SHOWN = ("tokens_per_s", "engine_tokens_per_s", "delivered_to_engine", "good_share")


def run(context: Context) -> dict[str, Any]:
    """A row for each door and load."""
    model.run(context)
    with tempfile.TemporaryDirectory(prefix="octavo-gpu-") as folder:
        output = Path(folder) / "serving.json"
        flags = ["--quick", f"--device={context.device}", f"--output={output}"]
        command = [sys.executable, "-m", "benchmarks.serving", f"--model={context.model}", *flags]
        subprocess.run(command, check=True)
        figures = json.loads(output.read_text(encoding="utf-8"))["figures"]
    return {"serving": [_row(figure) for figure in figures]}


def _row(figure: dict[str, Any]) -> dict[str, Any]:
    medians = {
        f"{name}_p50": (figure[name] or {}).get("p50")
        for name in ("first_token_ms", "inter_token_ms")
    }
    shown = {name: figure[name] for name in _SHOWN}
    num_errors = sum(figure["errors"].values())
    return {
        "door": figure["door"],
        "load": figure["load"],
        **shown,
        **medians,
        "errors": num_errors,
    }
