"""How a process tells its parent where it listens: a file that appears whole, or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path


def write_ready_file(path: Path | None, **ports: int) -> None:
    """Writes the bound ports as a JSON object, where a file was asked for."""
    if path is None:
        return
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps(ports), encoding="utf-8")
    partial.replace(path)
