"""Which part of a matrix a rank holds. Said beside a model, never inside it.

Of a matrix [out, in]: `column` deals out its outputs, so that each rank computes some of them;
`row` deals out its inputs, so that each rank computes a summand of all outputs, and the ranks must
be summed (all_reduce). `whole` gives every rank everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # what plans memory reads this without torch
    import torch

Placement = Literal["column", "row", "whole"]

# Of the decoders that are named as Llama's is; what is not named here is whole.
DECODER_PLACEMENT: Mapping[str, Placement] = {
    "embed_tokens": "column",
    "q_proj": "column",
    "k_proj": "column",
    "v_proj": "column",
    "o_proj": "row",
    "gate_proj": "column",
    "up_proj": "column",
    "down_proj": "row",
    "lm_head": "column",
}


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
