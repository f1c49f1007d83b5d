"""Matrices whose rows keep their bits, however many rows there are.

A matrix kernel of a fixed number of rows gives a row the same bits whatever the other rows hold.
With another number of rows the library may pick another kernel, and does: on the machine where this
was written one row of 1,536 differs from the same row among eight, and in float32 attention 1-3
rows differ from 4 and more, while 8, 16, 32, 64 and 128 rows agree in every bit. So rows come in
tiles of these sizes, and a size is used only where the check below finds it equal to the smallest,
on this machine, with this shape and this number of threads. Where none is, all rows go by eights.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F

SMALLEST_TILE = 8
ROW_TILES = (128, 64, 32, 16, SMALLEST_TILE)  # largest first

RowFunction = Callable[[torch.Tensor], torch.Tensor]


def row_function(weight: torch.Tensor, bias: torch.Tensor | None = None) -> RowFunction:
    """x [rows, in] -> [rows, out] for a matrix [out, in], laid out for the device it lies on.

    The bias [out], in the matrix's dtype, is added before the one rounding.

    On CPUs oneDNN's own layout reads the matrix twice as fast as F.linear does. Where a CPU cannot
    multiply float16 the matrix is kept in float32, which holds every float16 exactly.
    """
    if weight.device.type != "cpu":
        return functools.partial(_plain, weight, bias)
    if weight.dtype == torch.float16:
        wide_bias = None if bias is None else bias.float()
        return functools.partial(_through_float32, row_function(weight.float(), wide_bias))
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]  # torch's
        return functools.partial(_plain, weight, bias)
    reorder = torch.ops.mkldnn._reorder_linear_weight  # torch's only door to it
    return functools.partial(_onednn, reorder(weight.contiguous(), SMALLEST_TILE), bias)


def equal_row_tiles(function: RowFunction, width: int, dtype: torch.dtype) -> tuple[int, ...]:
    """The sizes of ROW_TILES, largest first, that give every row the bits of the smallest.

    `width` is the number of elements of a row. Also turns the rows around, so that a row stands at
    several places of its tile. (1,): not even the smallest tile is indifferent to a row's place.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(ROW_TILES[0], width, generator=generator).to(dtype)
    expected = in_tiles(function, x, (SMALLEST_TILE,))
    if not torch.equal(in_tiles(function, x.flip(0), (SMALLEST_TILE,)).flip(0), expected):
        return (1,)
    return tuple(
        size
        for size in ROW_TILES
        if torch.equal(in_tiles(function, x, (size,)), expected)
        and torch.equal(in_tiles(function, x.flip(0), (size,)).flip(0), expected)
    )


def in_tiles(function: RowFunction, x: torch.Tensor, sizes: tuple[int, ...]) -> torch.Tensor:
    """`function` of x [rows, ...], given rows in tiles of `sizes` (largest first) only."""
    num_rows, start, parts = x.shape[0], 0, []
    for size in sizes:
        while num_rows - start >= size:
            parts.append(function(x[start : start + size]))
            start += size
    assert start == num_rows, f"{num_rows} rows are not padded to {sizes[-1]}"
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _plain(weight: torch.Tensor, bias: torch.Tensor | None, x: torch.Tensor) -> torch.Tensor:
    return F.linear(x, weight, bias)


def _onednn(packed: torch.Tensor, bias: torch.Tensor | None, x: torch.Tensor) -> torch.Tensor:
    multiply = torch.ops.mkldnn._linear_pointwise  # torch's only door to it
    result: torch.Tensor = multiply(x, packed, bias, "none", [], "")
    return result


def _through_float32(function: RowFunction, x: torch.Tensor) -> torch.Tensor:
    return function(x.float()).to(x.dtype)
