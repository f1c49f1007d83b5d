"""One part in its process: `python -m benchmarks.gpu.part_process MODULE CONTEXT ANSWER`.

Writes the figures, and what device they are of, as JSON to the file ANSWER.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

from benchmarks.gpu.parts import Context


def main(module: str, order: str, answer: str) -> None:
    """Runs the part; what it raises ends this process with a traceback and status 1."""
    values = json.loads(order)
    context = Context(
        device=values["device"],
        wheels=Path(values["wheels"]),
        work=Path(values["work"]),
        shape=values["shape"],
    )
    figures = importlib.import_module(module).run(context)
    print(json.dumps(figures))
    text = json.dumps({"device": describe_device(context.device), "figures": figures})
    Path(answer).write_text(text, encoding="utf-8")


def describe_device(device: str) -> dict[str, str]:
    """Name of the device, and the versions of torch and CUDA."""
    import torch  # noqa: PLC0415 - after the part, whose threads may have to wait in their own way

    if device == "cpu":
        return {"name": "cpu", "torch": torch.__version__, "cuda": "none"}
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU found"
    return {"name": name, "torch": torch.__version__, "cuda": torch.version.cuda or "none"}


if __name__ == "__main__":
    main(*sys.argv[1:])
