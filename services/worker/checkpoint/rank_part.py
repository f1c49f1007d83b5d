"""A rank's part of a matrix."""

from __future__ import annotations

import torch

from services.worker.placement import Placement


def rank_part(
    matrix: torch.Tensor, placement: Placement, *, rank: int, size: int, unit: int = 1
) -> torch.Tensor:
    """The rank's rows (column) or columns (row) of `matrix` [out, in], a view.

    `unit` is the number of rows or columns that must stay together (a head); units are dealt out
    in order, the first ranks taking one more where they do not divide.
    """
    if placement == "whole" or size == 1:
        return matrix
    dim = 0 if placement == "column" else 1
    num_units, rest = divmod(matrix.shape[dim], unit)
    assert rest == 0, f"{matrix.shape[dim]} is not a multiple of {unit}"
    start, stop = (_first_unit(num_units, r, size) * unit for r in (rank, rank + 1))
    return matrix.narrow(dim, start, stop - start)


def _first_unit(num_units: int, rank: int, size: int) -> int:
    each, more = divmod(num_units, size)
    return rank * each + min(rank, more)
