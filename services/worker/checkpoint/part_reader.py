"""Reads parts of matrices piece by piece into the memory where they stay."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from services.worker.checkpoint.dialects import Dialect
from services.worker.checkpoint.finite import refuse_not_finite
from services.worker.checkpoint.matrix_source import find_matrix, shape_error
from services.worker.checkpoint.quantise import quantise_rows
from services.worker.checkpoint.rank_part import RankPart
from services.worker.checkpoint.reader import (
    CheckpointReader,
    OpenTensor,
    TensorInfo,
)
from services.worker.fp8_matrix import BlockScale, Fp8Matrix

_LARGE_PAGE_BYTES = 2 * 2**20  # of memory, as the system hands it out
# What a thread reads at once: where two threads begin the same page, the system clears it twice.
_PIECE_BYTES = _LARGE_PAGE_BYTES
_THREADS = 4  # a disk gives more to several readers, and so does memory that is new


@dataclass(frozen=True, kw_only=True, slots=True)
class WantedPart:
    """A part of a matrix, and `out` [part], contiguous, which it fills."""

    info: TensorInfo
    part: RankPart
    out: torch.Tensor

    @property
    def is_as_stored(self) -> bool:
        """Nothing is converted: e4m3fn may be stored as I8, which has its bits."""
        return self.out.dtype in (self.info.dtype, torch.float8_e4m3fn)


class PartReader:
    """`on_read` is told the bytes of each piece. Raises where a value is not finite.

    Holds threads until `close`.
    """

    def __init__(self, reader: CheckpointReader, on_read: Callable[[int], None]) -> None:
        self._reader, self._on_read = reader, on_read
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="checkpoint")

    def close(self) -> None:
        """Ends the threads."""
        self._pool.shutdown()

    def read(self, wanted: Sequence[WantedPart]) -> None:
        """Fills each `out`: as it is stored, or converted from 16 or 32 bits to its dtype."""
        as_stored = [each for each in wanted if each.is_as_stored]
        with ExitStack() as files:
            reads = []
            for each in as_stored:
                tensor = files.enter_context(self._reader.opened(each.info.name))
                reads += [
                    partial(_read_piece, tensor, rows, each.part.columns, target)
                    for rows, target in self._pieces(each)
                ]
            self._run(reads)
        for each in wanted:
            if not each.is_as_stored:
                self._convert(each)

    def read_quantised(self, wanted: WantedPart) -> BlockScale:
        """16-bit numbers to e4m3fn, and the scales of the part.

        Reads whole rows, so that scales are the same at any number of ranks.
        """
        info, part, width = wanted.info, wanted.part, wanted.info.shape[1]
        scales = torch.ones((part.shape[0], 1))
        for rows, target in self._pieces(wanted):
            whole = torch.empty((len(rows), width), dtype=info.dtype)
            self._reader.read_part(info.name, rows, range(width), whole)
            refuse_not_finite(info, whole)
            codes, scale = quantise_rows(whole.float())
            target.copy_(codes[:, part.columns.start : part.columns.stop])
            scales[rows.start - part.rows.start : rows.stop - part.rows.start] = scale
            self._on_read(whole.nbytes)
        return BlockScale(values=scales, block=(1, part.shape[1]), shape=part.shape)

    def _convert(self, wanted: WantedPart) -> None:
        info = wanted.info
        for rows, target in self._pieces(wanted):
            as_stored = torch.empty(target.shape, dtype=info.dtype)
            self._reader.read_part(info.name, rows, wanted.part.columns, as_stored)
            refuse_not_finite(info, as_stored)
            refuse_not_finite(info, target.copy_(as_stored))
            self._on_read(as_stored.nbytes)

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

    def _pieces(self, wanted: WantedPart) -> Iterator[tuple[range, torch.Tensor]]:
        """The rows of a part in pieces, each with its place in `out`."""
        name, part = wanted.info.name, wanted.part
        for rows in self._reader.pieces(name, part.rows, part.columns, _PIECE_BYTES):
            yield rows, wanted.out[rows.start - part.rows.start : rows.stop - part.rows.start]

    def _run(self, reads: Sequence[Callable[[], int]]) -> None:
        """Several at once; after an error none is begun, and none goes on."""
        if len(reads) == 1:  # waking a thread would take longer
            self._on_read(reads[0]())
            return
        futures = [self._pool.submit(read) for read in reads]
        try:
            for future in futures:
                self._on_read(future.result())
        finally:
            for future in futures:
                future.cancel()
            wait(futures)


def _read_piece(tensor: OpenTensor, rows: range, columns: range, target: torch.Tensor) -> int:
    """Looked at while it is in the CPU's cache; the bytes read."""
    tensor.read_part(rows, columns, target.view(tensor.info.dtype))
    refuse_not_finite(tensor.info, target)
    return target.nbytes


def empty_matrix(shape: tuple[int, int], dtype: torch.dtype) -> torch.Tensor:
    """Memory for a matrix, by numpy, which asks the system for large pages; begins with one.

    The first write to each page costs more than reading what is written: there are fewer of them.
    """
    num_bytes = shape[0] * shape[1] * dtype.itemsize
    memory = np.empty(num_bytes + _LARGE_PAGE_BYTES, np.uint8)
    start = -memory.ctypes.data % _LARGE_PAGE_BYTES
    return torch.from_numpy(memory[start : start + num_bytes]).view(dtype).view(shape)


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
    part = RankPart(rows=range(info.shape[0]), columns=range(info.shape[1]))
    dtype = info.dtype if source.scale is None else torch.float8_e4m3fn
    values = empty_matrix(part.shape, dtype)
    parts = PartReader(reader, lambda num_bytes: None)
    parts.read([WantedPart(info=info, part=part, out=values)])
    parts.close()
    if source.scale is None:
        return values
    return Fp8Matrix(values=values, scale=source.scale, inputs=source.inputs)
