"""The weights of one rank, by name, in the dtype of the activations: what layers pack.

Everything a checkpoint holds must be asked for: `finish` refuses tensors that nobody read, because
a scale or a bias that is left out gives wrong answers without an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from services.worker.checkpoint.fp8 import UNQUANTISED, Dialect
from services.worker.checkpoint.rank_part import rank_part
from services.worker.checkpoint.reader import CheckpointReader, tensor_error
from services.worker.placement import Placement

_IGNORED_SUFFIX = ".rotary_emb.inv_freq"  # written by old versions of transformers; computed here

Progress = Callable[[int, int], None]


class Weights:
    """Reads tensors, takes this rank's part of them, and counts the bytes."""

    def __init__(
        self,
        reader: CheckpointReader,
        dialect: Dialect,
        *,
        dtype: torch.dtype,
        device: torch.device,
        placement: Mapping[str, Placement],
        rank: int,
        size: int,
        on_progress: Progress,
    ) -> None:
        """`placement` is keyed by the last part of a matrix's name ("q_proj")."""
        self.dtype, self.device = dtype, device
        self._reader, self._dialect = reader, dialect
        self._placement, self._rank, self._size = placement, rank, size
        self._on_progress = on_progress
        self._unread = set(reader.tensors)
        self._num_bytes = 0
        on_progress(0, reader.total_bytes)

    def matrix(self, name: str, *, rows: int, columns: int, unit: int = 1) -> torch.Tensor:
        """The rank's part of the matrix [rows, columns] `name`; for `unit` see rank_part."""
        info = self._reader.info(f"{name}.weight")
        if info.shape != (rows, columns):
            raise self._shape_error(info.name, f"[{rows}, {columns}]")
        quantised = self._dialect.read(self._reader, name)
        if quantised is None:
            matrix = self._read_plain(info.name).to(self.dtype)
        else:
            weight, used = quantised
            matrix = weight.expand(self.dtype)
            self._done(*used)
        part = rank_part(
            matrix,
            self.placement(name),
            rank=self._rank,
            size=self._size,
            unit=unit,
        )
        return part.to(self.device)

    def bias(self, name: str, *, rows: int, unit: int = 1) -> torch.Tensor:
        """What belongs to the rank's part of the matrix `name`, [its outputs] in dtype.

        Where the ranks are summed, only the first one has it: the others' is 0.
        """
        bias = self._read_plain(f"{name}.bias")
        if bias.shape != (rows,):
            raise self._shape_error(f"{name}.bias", f"[{rows}]")
        if self.placement(name) == "column":
            column = bias[:, None]
            bias = rank_part(column, "column", rank=self._rank, size=self._size, unit=unit)[:, 0]
        elif self.placement(name) == "row" and self._rank > 0:
            bias = torch.zeros_like(bias)
        return bias.to(self.device, self.dtype, copy=True)

    def vector(self, name: str, *, size: int) -> torch.Tensor:
        """A norm's weight, [size] float32: the same on every rank."""
        name = f"{name}.weight"
        vector = self._read_plain(name)
        if vector.shape != (size,):
            raise self._shape_error(name, f"[{size}]")
        return vector.float().to(self.device)

    def table(self, name: str, *, rows: int, columns: int) -> torch.Tensor:
        """The embedding table, [rows, columns]: the same on every rank."""
        name = f"{name}.weight"
        table = self._read_plain(name)
        if table.shape != (rows, columns):
            raise self._shape_error(name, f"[{rows}, {columns}]")
        return table.to(self.device, self.dtype, copy=True)

    def placement(self, name: str) -> Placement:
        """How the matrix is dealt out to the ranks."""
        return self._placement.get(name.rpartition(".")[2], "whole")

    def ignore_copy(self, name: str, of: str) -> None:
        """Lets a tied matrix be stored twice; raises where the two differ."""
        name, of = f"{name}.weight", f"{of}.weight"
        if name in self._unread:
            if not torch.equal(self._reader.read(name), self._reader.read(of)):
                raise tensor_error(
                    self._reader.info(name).file, name, f"differs from {of}, but they are tied"
                )
            self._done(name)

    def finish(self) -> None:
        """Raises where the checkpoint holds a tensor that nothing read."""
        for name in sorted(self._unread):
            if not name.endswith(_IGNORED_SUFFIX):
                file = self._reader.info(name).file
                raise tensor_error(file, name, "is not one that this model reads")
        self._on_progress(self._reader.total_bytes, self._reader.total_bytes)

    def _read_plain(self, name: str) -> torch.Tensor:
        info = self._reader.info(name)
        if info.dtype not in UNQUANTISED:
            raise tensor_error(info.file, name, f"is {info.dtype}; it must be F32, F16 or BF16")
        self._done(name)
        return self._reader.read(name)

    def _done(self, *names: str) -> None:
        self._unread.difference_update(names)
        self._num_bytes += sum(self._reader.info(name).num_bytes for name in names)
        self._on_progress(self._num_bytes, self._reader.total_bytes)

    def _shape_error(self, name: str, wanted: str) -> Exception:
        info = self._reader.info(name)
        return tensor_error(
            info.file, name, f"has the shape {list(info.shape)}; it must be {wanted}"
        )
