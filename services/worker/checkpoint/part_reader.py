"""Reads parts of matrices piece by piece into the memory where they stay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from services.worker.checkpoint.dialects import Dialect
from services.worker.checkpoint.matrix_source import MatrixSource, find_matrix, shape_error
from services.worker.checkpoint.quantise import quantise_rows
from services.worker.checkpoint.rank_part import RankPart
from services.worker.checkpoint.reader import CheckpointReader, TensorInfo, tensor_error
from services.worker.fp8_matrix import BlockScale, Fp8Matrix

_PIECE_BYTES = 4 * 2**20  # read at once: checked and converted while it is in the CPU's cache
_THREADS = 4  # a disk gives more to several readers, and so does memory that is new


class PartReader:
    """`on_read` is told the bytes of each piece."""

    def __init__(self, reader: CheckpointReader, on_read: Callable[[int], None]) -> None:
        self._reader, self._on_read = reader, on_read

    def read_fp8(self, source: MatrixSource, part: RankPart, out: torch.Tensor) -> BlockScale:
        """Fills `out` [part] e4m3fn; the scales of the part. Raises where a code is NaN."""
        info, out = source.weight, out.view(source.weight.dtype)
        assert source.scale is not None
        self._read_as_stored(info, part, out, check=_refuse_nan)
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
        if info.dtype == out.dtype:
            self._read_as_stored(info, part, out)
            return
        for rows, target in self._pieces(info, part, out):
            as_stored = torch.empty(target.shape, dtype=info.dtype)
            self._reader.read_part(info.name, rows, part.columns, as_stored)
            target.copy_(as_stored)
            self._on_read(as_stored.nbytes)

    def _read_as_stored(
        self,
        info: TensorInfo,
        part: RankPart,
        out: torch.Tensor,
        check: Callable[[TensorInfo, torch.Tensor], None] = lambda info, piece: None,
    ) -> None:
        """Several pieces at once; `check` looks at each while it is in the CPU's cache."""

        def read(piece: tuple[range, torch.Tensor]) -> int:
            rows, target = piece
            self._reader.read_part(info.name, rows, part.columns, target)
            check(info, target)
            return target.nbytes

        pieces = list(self._pieces(info, part, out))
        if len(pieces) == 1:
            self._on_read(read(pieces[0]))
            return
        with ThreadPoolExecutor(_THREADS) as pool:
            for num_bytes in pool.map(read, pieces):
                self._on_read(num_bytes)

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


def empty_matrix(shape: tuple[int, int], dtype: torch.dtype) -> torch.Tensor:
    """Memory for a matrix, by numpy, which asks the system for large pages.

    The first write to each page costs more than reading what is written: there are fewer of them.
    """
    num_bytes = shape[0] * shape[1] * dtype.itemsize
    return torch.from_numpy(np.empty(num_bytes, np.uint8)).view(dtype).view(shape)


def _refuse_nan(info: TensorInfo, codes: torch.Tensor) -> None:
    if holds_nan(codes):
        raise tensor_error(info.file, info.name, "holds a NaN")


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
    values = empty_matrix(part.shape, torch.float8_e4m3fn)
    scale = PartReader(reader, lambda num_bytes: None).read_fp8(source, part, values)
    return Fp8Matrix(values=values, scale=scale, inputs=source.inputs)
