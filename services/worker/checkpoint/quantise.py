"""16-bit weights to FP8, when they are loaded."""

from __future__ import annotations

import torch

from services.worker.fp8_matrix import E4M3_MAX, to_e4m3


def quantise_rows(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """[out, in] float32 to e4m3fn codes and a scale for each row, [out, 1] float32.

    scale = largest magnitude of the row / 448; a row of zeros has the scale 1.
    """
    scale = matrix.abs().amax(1, keepdim=True) / E4M3_MAX
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    return to_e4m3(matrix, scale), scale
