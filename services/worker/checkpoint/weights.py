"""The weights of one rank, by name: what layers pack.

FP8 stays as it is stored; everything else comes in the dtype of the activations. Tensors are read
piece by piece to where they stay, so that loading takes no more memory than the matrix at hand.

Everything a checkpoint holds must be asked for: `finish` refuses tensors that nobody read, because
a scale or a bias that is left out gives wrong answers without an error.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import torch

from services.worker.checkpoint.dialects import Dialect
from services.worker.checkpoint.finite import refuse_not_finite
from services.worker.checkpoint.kv_scales import find_kv_scales
from services.worker.checkpoint.matrix_source import (
    UNQUANTISED,
    MatrixSource,
    find_matrix,
    shape_error,
)
from services.worker.checkpoint.part_reader import PartReader, WantedPart, empty_matrix
from services.worker.checkpoint.rank_part import RankPart, rank_part
from services.worker.checkpoint.read_ahead import ReadAhead
from services.worker.checkpoint.reader import CheckpointReader, TensorInfo, tensor_error
from services.worker.checkpoint.weight_counts import WeightCounts
from services.worker.fp8_matrix import BlockScale, Fp8Matrix
from services.worker.input_scheme import InputScheme
from services.worker.placement import Placement

Matrix: TypeAlias = torch.Tensor | Fp8Matrix
Progress = Callable[[int, int], None]

_IGNORED_SUFFIX = ".rotary_emb.inv_freq"  # written by old versions of transformers; computed here
_ZERO_POINTS = (".zeros", "_zero_point")  # nothing but zeros, where FP8 is symmetric


class Weights:
    """Reads this rank's part of each tensor, and counts the bytes."""

    def __init__(
        self,
        reader: CheckpointReader,
        dialect: Dialect | None,
        *,
        dtype: torch.dtype,
        device: torch.device,
        placement: Mapping[str, Placement],
        rank: int = 0,
        size: int = 1,
        on_progress: Progress = lambda loaded_bytes, total_bytes: None,
        quantise: bool = False,
    ) -> None:
        """`placement` is keyed by the last part of a matrix's name ("q_proj").

        quantise: 16-bit matrices of `stacked` become FP8, a scale for each output channel.
        """
        self.dtype, self.device = dtype, device
        self._reader, self._dialect, self._quantise = reader, dialect, quantise
        self._placement, self._rank, self._size = placement, rank, size
        self._parts = PartReader(reader, self._count)
        self._ahead: ReadAhead | None = None
        self._on_progress = on_progress
        self._unread = set(reader.tensors)
        self.counts = WeightCounts()
        self._num_bytes = 0
        on_progress(0, reader.total_bytes)

    def stacked(
        self, names: Sequence[str], *, rows: Sequence[int], columns: int, unit: int = 1
    ) -> list[Matrix]:
        """The rank's parts of the matrices [rows, columns] `names`, on top of each other.

        One matrix; but several, in order, where some are FP8 and others not, or where they want
        their inputs rounded differently. For `unit` see rank_part.
        """
        found = [
            (self._find(name, (num_rows, columns)), self._part(name, (num_rows, columns), unit))
            for name, num_rows in zip(names, rows, strict=True)
        ]
        runs = itertools.groupby(found, key=lambda each: (each[0].scale is None, each[0].inputs))
        return [self._stack(list(run), quantise=self._quantise) for _, run in runs]

    def matrix(self, name: str, *, rows: int, columns: int, unit: int = 1) -> Matrix:
        """The rank's part of the matrix [rows, columns] `name`, as it is stored."""
        shape = (rows, columns)
        return self._stack(
            [(self._find(name, shape), self._part(name, shape, unit))], quantise=False
        )

    def bias(self, name: str, *, rows: int, unit: int = 1) -> torch.Tensor:
        """What belongs to the rank's part of the matrix `name`, [its outputs] in dtype.

        Where the ranks are summed, only the first one has it: the others' is 0.
        """
        bias = self._read_plain(f"{name}.bias", (rows,))
        if self.placement(name) == "column":
            part = self._part(name, (rows, 1), unit).rows
            bias = bias[part.start : part.stop]
        elif self.placement(name) == "row" and self._rank > 0:
            bias = torch.zeros_like(bias)
        converted = bias.to(self.dtype)
        refuse_not_finite(self._reader.info(f"{name}.bias"), converted)
        return converted.to(self.device)

    def vector(self, name: str, *, size: int) -> torch.Tensor:
        """A norm's weight, [size] float32: the same on every rank."""
        return self._read_plain(f"{name}.weight", (size,)).float().to(self.device)

    def table(self, name: str, *, rows: int, columns: int) -> torch.Tensor:
        """The embedding table, [rows, columns]: the same on every rank."""
        info = self._plain_info(f"{name}.weight", (rows, columns))
        whole = RankPart(rows=range(rows), columns=range(columns))
        table = empty_matrix(whole.shape, self.dtype)
        self._parts.read([WantedPart(info=info, part=whole, out=table)])
        self._unread.discard(info.name)
        return table.to(self.device)

    def kv_scales(self, name: str) -> tuple[float, float]:
        """What the keys and the values of the attention `name` are multiplied by in an FP8 cache.

        1.0 where the checkpoint does not say; `counts` has those.
        """
        scales = find_kv_scales(self._reader, name)
        self._unread.difference_update(scales.tensors)
        if scales.key is None or scales.value is None:
            self.counts.without_kv_scales.add(name)
        return scales.key or 1.0, scales.value or 1.0

    def placement(self, name: str) -> Placement:
        """How the matrix is dealt out to the ranks."""
        return self._placement.get(name.rpartition(".")[2], "whole")

    def ignore_copy(self, name: str, of: str) -> None:
        """Lets a tied matrix be stored twice; raises where the two differ."""
        name, of = f"{name}.weight", f"{of}.weight"
        if name in self._unread:
            if not self._parts.are_equal(self._reader.info(name), self._reader.info(of)):
                raise tensor_error(
                    self._reader.info(name).file, name, f"differs from {of}, but they are tied"
                )
            self._unread.discard(name)

    @contextmanager
    def reading_all(self) -> Iterator[None]:
        """While everything is read: files are read ahead, where this rank needs all of them."""
        if self._size == 1:
            self._ahead = ReadAhead(self._reader.files)
            self._ahead.start()
        try:
            yield
        finally:
            if self._ahead is not None:
                self._ahead.close()
            self._parts.close()

    def finish(self) -> None:
        """Raises where the checkpoint holds a tensor that nothing read."""
        for name in sorted(self._unread):
            info = self._reader.info(name)
            if name.endswith(_ZERO_POINTS):
                if self._reader.read(name).reshape(-1).view(torch.uint8).any():
                    raise tensor_error(info.file, name, "is not all zero: not symmetric FP8")
            elif not name.endswith(_IGNORED_SUFFIX):
                raise tensor_error(info.file, name, "is not one that this model reads")
        self._on_progress(self._reader.total_bytes, self._reader.total_bytes)

    def _find(self, name: str, shape: tuple[int, int]) -> MatrixSource:
        source = find_matrix(self._reader, self._dialect, name, shape)
        self._unread.difference_update(source.tensors)
        return source

    def _part(self, name: str, shape: tuple[int, int], unit: int) -> RankPart:
        placement = self.placement(name)
        return rank_part(shape, placement, rank=self._rank, size=self._size, unit=unit)

    def _stack(self, run: Sequence[tuple[MatrixSource, RankPart]], *, quantise: bool) -> Matrix:
        """Reads matrices of one kind to where they stay: one matrix, nothing copied."""
        is_fp8 = run[0][0].scale is not None
        num_rows, columns = sum(part.shape[0] for _, part in run), run[0][1].shape[1]
        dtype = torch.float8_e4m3fn if is_fp8 or quantise else self.dtype
        values = empty_matrix((num_rows, columns), dtype)
        targets = torch.split(values, [part.shape[0] for _, part in run])
        wanted = [
            WantedPart(info=source.weight, part=part, out=target)
            for (source, part), target in zip(run, targets, strict=True)
        ]
        if quantise and not is_fp8:
            scales = [self._parts.read_quantised(each) for each in wanted]
        else:
            self._parts.read(wanted)
            scales = [
                source.scale.part(part.rows, part.columns) for source, part in run if source.scale
            ]
        if not scales:
            return values.to(self.device)
        inputs = run[0][0].inputs if is_fp8 else InputScheme()
        self.counts.matrices_rounded += 0 if is_fp8 else len(run)
        self.counts.matrices_with_inputs += 0 if inputs is None else len(run)
        return Fp8Matrix(values=values, scale=BlockScale.join(scales), inputs=inputs).to(
            self.device
        )

    def _plain_info(self, name: str, shape: tuple[int, ...]) -> TensorInfo:
        info = self._reader.info(name)
        if info.dtype not in UNQUANTISED:
            raise tensor_error(info.file, name, f"is {info.dtype}; it must be F32, F16 or BF16")
        if info.shape != shape:
            raise shape_error(info, f"{list(shape)}")
        return info

    def _read_plain(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        info = self._plain_info(name, shape)
        self._done(name)
        values = self._reader.read(name)
        refuse_not_finite(info, values)
        return values

    def _done(self, name: str) -> None:
        self._unread.discard(name)
        self._count(self._reader.info(name).num_bytes)

    def _count(self, num_bytes: int) -> None:
        self._num_bytes += num_bytes
        if self._ahead is not None:
            self._ahead.advance(num_bytes)
        self._on_progress(self._num_bytes, self._reader.total_bytes)
