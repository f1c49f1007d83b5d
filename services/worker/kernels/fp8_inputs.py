"""Inputs rounded to FP8 and back: what a backend that multiplies in FP8 does to them."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from services.worker.fp8_matrix import E4M3_MAX, to_e4m3
from services.worker.input_scheme import InputScheme

_SMALLEST_SCALE = 1e-30  # for a row of zeros, which a step's padding is


def round_inputs(x: torch.Tensor, scheme: InputScheme) -> torch.Tensor:
    """x [T, in] with each element rounded to e4m3 times its scale: the same shape and dtype.

    A row's result depends on that row alone.
    """
    num_rows, width = x.shape
    if scheme.static_scale is not None:
        scale = x.new_full((1, 1), scheme.static_scale, dtype=torch.float32)
        return (to_e4m3(x.float(), scale).float() * scale).to(x.dtype)
    group = scheme.group or width
    groups = F.pad(x.float(), (0, -width % group)).view(num_rows, -1, group)
    scale = groups.abs().amax(-1, keepdim=True).div_(E4M3_MAX).clamp_(min=_SMALLEST_SCALE)
    rounded = to_e4m3(groups, scale).float().mul_(scale)
    return rounded.flatten(1)[:, :width].to(x.dtype)
