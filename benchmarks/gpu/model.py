"""Part: a model of the default's shape, made on the spot: random FP8 in Friendli's layout."""

from __future__ import annotations

from typing import Any

from benchmarks.gpu.parts import Context
from services.worker.tools.synthesize.__main__ import main as synthesize


def run(context: Context) -> dict[str, Any]:
    """Writes it, unless it is there; other parts call this too, so that they can run alone."""
    status = synthesize([f"--shape={context.shape}", str(context.model)])
    assert status == 0, "the model was not written"
    num_bytes = sum(path.stat().st_size for path in context.model.iterdir())
    return {"shape": context.shape, "mebibytes": round(num_bytes / 2**20, 1)}
