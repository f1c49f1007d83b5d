"""What the codes of each matrix are multiplied by: the largest magnitude / 448, in the stored type.

Matrices that read the same input share a scale where a dialect has one for each tensor, so that an
engine that fuses them rounds nothing again.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from services.worker.checkpoint.reader import CheckpointReader
from services.worker.fp8_matrix import E4M3_MAX
from services.worker.tools.layouts import Layout

_GROUPS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
_TYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def stored_type(layout: Layout, model_type: str) -> torch.dtype:
    """The type that scales are stored in."""
    return _TYPES[layout.scale_type or model_type]


def group_of(name: str) -> str:
    """The same for matrices that share a scale."""
    owner, _, last = name.rpartition(".")
    return next((f"{owner}.{group[0]}" for group in _GROUPS if last in group), name)


def tensor_scales(
    reader: CheckpointReader, names: list[str], dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """One scale for each matrix, [] in `dtype`; reads every matrix once."""
    largest: dict[str, float] = {}
    for name in names:
        seen = float(reader.read(f"{name}.weight").abs().max())
        largest[group_of(name)] = max(seen, largest.get(group_of(name), 0.0))
    return {name: _scale(torch.tensor(largest[group_of(name)]), dtype) for name in names}


def channel_scales(matrix: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """One scale for each row of a matrix [out, in]: [out, 1] in `dtype`."""
    return _scale(matrix.float().abs().amax(1, keepdim=True), dtype)


def input_scale(name: str, largest: Mapping[str, float], dtype: torch.dtype) -> torch.Tensor:
    """The scale of the inputs of the matrix `name`, [] in `dtype`."""
    return _scale(torch.tensor(largest[name]), dtype)


def _scale(largest: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A matrix of zeros has the scale 1."""
    scale = largest.float() / E4M3_MAX
    return torch.where(scale == 0, torch.ones_like(scale), scale).to(dtype)
