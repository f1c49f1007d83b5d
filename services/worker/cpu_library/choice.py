"""Whether a model is computed by the compiled kernels: one rule for the ranks and for plans."""

from __future__ import annotations

from pathlib import Path

from services.worker.cpu_library.compilation import library_path
from services.worker.cpu_library.instruction_sets import InstructionSet, supported

LANES = 16  # dimensions and tokens that the kernels take at once
MOST_HEAD_DIM = 256  # kMostDims of native/attention.cpp


def can_compute(dtype: str, *, head_dim: int, fp8_kv_cache: bool = False) -> bool:
    """Whether the kernels compute such a model; `dtype` is that of the activations."""
    fits = head_dim % LANES == 0 and head_dim <= MOST_HEAD_DIM
    return dtype == "bfloat16" and fits and not fp8_kv_cache


def find_library(name: str | None = None) -> tuple[InstructionSet, Path] | None:
    """The best that was built for this machine, or the one of that name; None: there is none."""
    sets = [one for one in supported() if name in (None, one.name)]
    paths = ((one, library_path(one)) for one in sets)
    return next(((one, path) for one, path in paths if path.exists()), None)
