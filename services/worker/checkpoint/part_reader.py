"""Reads parts of matrices piece by piece into the memory where they stay."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

from services.worker.checkpoint.dialects import Dialect
from services.worker.checkpoint.matrix_source import MatrixSource, find_matrix, shape_error
from services.worker.checkpoint.quantise import quantise_rows
from services.worker.checkpoint.rank_part import RankPart
from services.worker.checkpoint.reader import CheckpointReader, TensorInfo, tensor_error
from services.worker.fp8_matrix import BlockScale, Fp8Matrix

_PIECE_BYTES = 4 * 2**20  # read at once: checked and converted while it is in the CPU's cache


class PartReader:
    """`on_read` is told the bytes of each piece."""

    def __init__(self, reader: CheckpointReader, on_read: Callable[[int], None]) -> None:
        self._reader, self._on_read = reader, on_read

    def read_fp8(self, source: MatrixSource, part: RankPart, out: torch.Tensor) -> BlockScale:
        """Fills `out` [part] e4m3fn; the scales of the part. Raises where a code is NaN."""
        info, out = source.weight, out.view(source.weight.dtype)
        assert source.scale is not None
        for rows, target in self._pieces(info, part, out):
            self._reader.read_part(info.name, rows, part.columns, target)
            if holds_nan(target):
                raise tensor_error(info.file, info.name, "holds a NaN")
            self._on_read(target.nbytes)
        return source.scale.part(part.rows, part.columns)

    def read_quantised(self, source: MatrixSource, part: RankPart, out: torch.Tensor) -> BlockScale:
        """Fills `out` [part] e4m3fn, rounded from 16 bits; the scales of the part.

        Reads whole rows, so that scales are the same at any number of ranks.
        """
        info, width = source.weight, source.weight.shape[1]
        scales = torch.ones((part.shape[0], 1))
        for rows, target in self._pieces(info, part, out):
            whole = torch.empty((len(rows), width), dtype=info.dtype)
            self._reader.read_part(info.name, rows, range(width), whole)
            codes, scale = quantise_rows(whole.float())
            if not scale.isfinite().all():
                raise tensor_error(info.file, info.name, "holds a value that is not finite")
            target.copy_(codes[:, part.columns.start : part.columns.stop])
            scales[rows.start - part.rows.start : rows.stop - part.rows.start] = scale
            self._on_read(whole.nbytes)
        return BlockScale(values=scales, block=(1, part.shape[1]), shape=part.shape)

    def read_plain(self, info: TensorInfo, part: RankPart, out: torch.Tensor) -> None:
        """Reads 16-bit and 32-bit numbers, and converts them where `out` has another dtype."""
        for rows, target in self._pieces(info, part, out):
            as_stored = target
            if info.dtype != out.dtype:
                as_stored = torch.empty(target.shape, dtype=info.dtype)
            self._reader.read_part(info.name, rows, part.columns, as_stored)
            if as_stored is not target:
                target.copy_(as_stored)
            self._on_read(as_stored.nbytes)

    def _pieces(
        self, info: TensorInfo, part: RankPart, out: torch.Tensor
    ) -> Iterator[tuple[range, torch.Tensor]]:
        """The rows of a part in pieces, each with its place in `out`."""
        for rows in self._reader.pieces(info.name, part.rows, part.columns, _PIECE_BYTES):
            yield rows, out[rows.start - part.rows.start : rows.stop - part.rows.start]

    def are_equal(self, one: TensorInfo, other: TensorInfo) -> bool:
        """Bit for bit, piece by piece."""
        if (one.dtype, one.shape) != (other.dtype, other.shape):
            return False
        part = RankPart(rows=range(one.shape[0]), columns=range(one.shape[1]))
        for rows in self._reader.pieces(one.name, part.rows, part.columns, _PIECE_BYTES):
            both = torch.empty((2, len(rows), one.shape[1]), dtype=one.dtype)
            for info, target in zip((one, other), both, strict=True):
                self._reader.read_part(info.name, rows, part.columns, target)
            if not both[0].view(torch.uint8).equal(both[1].view(torch.uint8)):
                return False
        return True


def holds_nan(codes: torch.Tensor) -> bool:
    """Whether e4m3fn codes hold a NaN: 0x7F, the largest signed byte, or 0xFF, the largest byte."""
    array = codes.view(torch.uint8).numpy()
    return array.size > 0 and bool(array.max() == 0xFF or array.view(np.int8).max() == 0x7F)


def read_matrix(
    reader: CheckpointReader, dialect: Dialect | None, name: str
) -> torch.Tensor | Fp8Matrix:
    """The whole matrix `name` (without ".weight") as it is stored, [out, in].

    Raises InvalidArgumentError, naming file, tensor and reason.
    """
    info = reader.info(f"{name}.weight")
    if len(info.shape) != 2:
        raise shape_error(info, "[out, in]")
    source = find_matrix(reader, dialect, name, (info.shape[0], info.shape[1]))
    if source.scale is None:
        return reader.read(info.name)
    part = RankPart(rows=range(info.shape[0]), columns=range(info.shape[1]))
    values = torch.empty(part.shape, dtype=torch.float8_e4m3fn)
    scale = PartReader(reader, lambda num_bytes: None).read_fp8(source, part, values)
    return Fp8Matrix(values=values, scale=scale, inputs=source.inputs)
