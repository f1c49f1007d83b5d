"""A matrix in FP8 as a checkpoint stores it: its bytes, its scales, and how its inputs are rounded.

What a checkpoint's dialect is called, and how it writes scales, is known to `checkpoint` alone: a
backend sees one form of all of them. Values are e4m3fn: 448 is the largest, NaN is 0x7F and 0xFF,
and there is no infinity.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from services.worker.input_scheme import InputScheme

E4M3_MAX = 448.0
_PIECE_ELEMENTS = 2**20  # expanded at once: scratch memory stays small


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockScale:
    """What the values of a matrix [out, in] are multiplied by, in blocks that share a scale.

    values: [ceil(out / block rows), ceil(in / block columns)] float32; the last blocks may be
    short. One scale for all is one block; a scale per output channel, blocks of one row.
    """

    values: torch.Tensor
    block: tuple[int, int]
    shape: tuple[int, int]  # of the matrix

    @property
    def kind(self) -> Literal["tensor", "channel", "block"]:
        """One scale, one for each output channel, or one for each block of rows and columns."""
        if self.values.numel() == 1:
            return "tensor"
        return "channel" if self.block == (1, self.shape[1]) else "block"

    def part(self, rows: range, columns: range) -> BlockScale:
        """The scales of a part of the matrix. Where it starts inside a block, blocks get finer."""
        values, row_block = _narrow(self.values, 0, self.block[0], self.shape[0], rows)
        values, column_block = _narrow(values, 1, self.block[1], self.shape[1], columns)
        return BlockScale(
            values=values, block=(row_block, column_block), shape=(len(rows), len(columns))
        )

    def of_rows(self, start: int, stop: int) -> torch.Tensor:
        """What broadcasts against these rows: [1, 1], [rows, 1] or [rows, in]."""
        if self.kind == "tensor":
            return self.values
        first = start // self.block[0]
        rows = self.values[first : -(-stop // self.block[0])]
        rows = rows.repeat_interleave(self.block[0], 0)[start - first * self.block[0] :]
        rows = rows[: stop - start]
        if self.block[1] >= self.shape[1]:
            return rows
        return rows.repeat_interleave(self.block[1], 1)[:, : self.shape[1]]

    @classmethod
    def join(cls, scales: Sequence[BlockScale]) -> BlockScale:
        """The scales of matrices stacked by rows. Nothing is rounded again.

        One scale where all have the same one; a scale for each output channel where each matrix has
        its own; else blocks as large as all of them allow.
        """
        shape = (sum(scale.shape[0] for scale in scales), scales[0].shape[1])
        first = scales[0].values
        if all(scale.values.numel() == 1 and scale.values.equal(first) for scale in scales):
            return cls(values=first, block=shape, shape=shape)
        column_block = math.gcd(*(min(scale.block[1], shape[1]) for scale in scales))
        row_block = 1 if column_block == shape[1] else _common_rows(scales)
        values = torch.cat([scale.refined(row_block, column_block) for scale in scales])
        return cls(values=values, block=(row_block, column_block), shape=shape)

    def refined(self, row_block: int, column_block: int) -> torch.Tensor:
        """The same scales in blocks that divide these."""
        values = self.values
        for dim, block in enumerate((row_block, column_block)):
            size = self.shape[dim]
            values = values.repeat_interleave(min(self.block[dim], size) // block, dim)
            values = values.narrow(dim, 0, -(-size // block))
        return values


@dataclass(frozen=True, kw_only=True, slots=True)
class Fp8Matrix:
    """[out, in] e4m3fn with its scales: weight = values * scale.

    inputs: how the checkpoint wants inputs rounded; None: it says nothing of them.
    """

    values: torch.Tensor
    scale: BlockScale
    inputs: InputScheme | None

    @property
    def shape(self) -> torch.Size:
        """[out, in]."""
        return self.values.shape

    def expand(self, dtype: torch.dtype) -> torch.Tensor:
        """values * scale, computed in float32 and rounded once: [out, in] in `dtype`."""
        result = torch.empty(self.shape, dtype=dtype, device=self.values.device)
        step = max(1, _PIECE_ELEMENTS // max(1, self.shape[1]))
        for start in range(0, self.shape[0], step):
            stop = min(start + step, self.shape[0])
            scale = self.scale.of_rows(start, stop)
            result[start:stop] = e4m3_values(self.values[start:stop]).mul_(scale)
        return result

    def to(self, device: torch.device) -> Fp8Matrix:
        """The same on another device."""
        scale = BlockScale(
            values=self.scale.values.to(device), block=self.scale.block, shape=self.scale.shape
        )
        return Fp8Matrix(values=self.values.to(device), scale=scale, inputs=self.inputs)


def e4m3_values(codes: torch.Tensor) -> torch.Tensor:
    """The float32 values of e4m3fn codes that hold no NaN, exactly and faster than .float().

    Sign, exponent and fraction of a code are those of a float16 whose exponent is 8 larger.
    """
    bits = codes.view(torch.int8).to(torch.int16)  # the sign fills the upper byte
    bits.bitwise_left_shift_(7).bitwise_and_(~0x4000)
    return bits.view(torch.float16).float().mul_(256.0)


def to_e4m3(x: torch.Tensor, scale: torch.Tensor | float) -> torch.Tensor:
    """x / scale in e4m3fn, saturating at its largest value; x is float32."""
    return (x / scale).clamp_(-E4M3_MAX, E4M3_MAX).to(torch.float8_e4m3fn)


def _narrow(
    values: torch.Tensor, dim: int, block: int, size: int, part: range
) -> tuple[torch.Tensor, int]:
    """The scales of `part` along one dimension of `size`, and the size of their blocks."""
    if block >= size:
        return values, len(part)
    finer = math.gcd(block, part.start)
    values = values.repeat_interleave(block // finer, dim)
    first = part.start // finer
    return values.narrow(dim, first, -(-part.stop // finer) - first), finer


def _common_rows(scales: Sequence[BlockScale]) -> int:
    """The rows that divide each matrix's blocks, and the places where matrices begin."""
    starts = [0]
    for scale in scales[:-1]:
        starts.append(starts[-1] + scale.shape[0])
    return math.gcd(*starts, *(min(scale.block[0], scale.shape[0]) for scale in scales))
