"""From the largest values to scales as they are stored: weight = code * scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from services.worker.checkpoint.reader import CheckpointReader, tensor_error
from services.worker.fp8_matrix import E4M3_MAX
from services.worker.tools.quantize.pieces import TYPES, tensor_pieces
from services.worker.tools.quantize.scheme import Scheme

_LEAST_F16 = 2.0**-24  # F16 has few exponents: its subnormal numbers count


@dataclass(frozen=True, kw_only=True, slots=True)
class MatrixScales:
    """In the type that they are stored in. weight: [] or [out, 1]; inputs: [], None if dynamic."""

    weight: torch.Tensor
    inputs: torch.Tensor | None


def largest_of_rows(reader: CheckpointReader, name: str) -> torch.Tensor:
    """The largest magnitude of each row of the matrix `name`, [rows, 1] float32; read in pieces.

    Raises InvalidArgumentError for a value that is not finite.
    """
    info = reader.info(f"{name}.weight")
    found = [
        piece.float().abs().amax(1, keepdim=True) for piece in tensor_pieces(reader, info.name)
    ]
    largest = torch.cat(found)
    if not largest.isfinite().all():
        raise tensor_error(info.file, info.name, "holds a value that is not finite")
    return largest


def group_scales(
    scheme: Scheme,
    largest: Mapping[str, torch.Tensor],
    source_type: str,
    largest_input: float | None,
) -> Mapping[str, MatrixScales]:
    """By the names of a group's matrices, whose rows have these largest magnitudes.

    With one scale for a matrix, all of them share it, so that an engine fuses them without rounding
    again. source_type: of the source's matrices; largest_input: where inputs are static.
    """
    dtype = TYPES[scheme.layout.scale_type or source_type]
    shared = torch.stack([rows.max() for rows in largest.values()]).max()
    inputs = None
    if largest_input is not None:
        inputs = _as_stored(torch.tensor(largest_input), dtype)
    return {
        name: MatrixScales(
            weight=_as_stored(rows if scheme.weights == "channel" else shared, dtype),
            inputs=inputs,
        )
        for name, rows in largest.items()
    }


def _as_stored(largest: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """largest / 448 in dtype, finite and above 0; 1 where there are only zeros."""
    limits = torch.finfo(dtype)
    least = _LEAST_F16 if dtype == torch.float16 else limits.smallest_normal
    scale = (largest / E4M3_MAX).clamp(least, limits.max)
    return torch.where(largest == 0, torch.ones_like(scale), scale).to(dtype)
