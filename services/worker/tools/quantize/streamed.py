"""A model whose matrices stay in their files: each is read when it is multiplied, and let go.

The network is that of models/: what it takes its matrices from, and what multiplies them, are
replaced here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F

from services.worker.checkpoint.reader import CheckpointReader
from services.worker.checkpoint.weights import Matrix, Weights
from services.worker.fp8_matrix import Fp8Matrix
from services.worker.kernels.reference import ReferenceKernels, ReferenceLinear
from services.worker.model_config import ModelConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class MatrixGroup:
    """Matrices that multiply the same inputs, [rows, columns] each: not read."""

    names: tuple[str, ...]  # without ".weight"
    rows: tuple[int, ...]
    columns: int

    @property
    def shape(self) -> torch.Size:
        """Of all of them on top of each other."""
        return torch.Size((sum(self.rows), self.columns))


class StreamedWeights(Weights):
    """Hands out groups instead of matrices; `groups` are those of the decoder's layers."""

    def __init__(self, reader: CheckpointReader, config: ModelConfig, device: torch.device) -> None:
        super().__init__(
            reader,
            None,
            dtype=getattr(torch, config.dtype),
            device=device,
            placement={},
        )
        self.groups: list[MatrixGroup] = []

    def stacked(
        self, names: Sequence[str], *, rows: Sequence[int], columns: int, unit: int = 1
    ) -> list[Matrix]:
        group = self._checked(names, rows, columns)
        self.groups.append(group)
        return [cast("Matrix", group)]  # layers hand it on to StreamedKernels, and do nothing else

    def matrix(self, name: str, *, rows: int, columns: int, unit: int = 1) -> Matrix:
        return cast("Matrix", self._checked([name], [rows], columns))

    def _checked(self, names: Sequence[str], rows: Sequence[int], columns: int) -> MatrixGroup:
        """Raises InvalidArgumentError for a matrix that is missing or does not fit."""
        for name, num_rows in zip(names, rows, strict=True):
            self._find(name, (num_rows, columns))
        return MatrixGroup(names=tuple(names), rows=tuple(rows), columns=columns)


class StreamedKernels(ReferenceKernels):
    """In float32. on_inputs is told of each group's inputs [T, in] before they are multiplied."""

    def __init__(
        self,
        reader: CheckpointReader,
        device: torch.device,
        on_inputs: Callable[[MatrixGroup, torch.Tensor], None],
    ) -> None:
        super().__init__(device, torch.float32)
        self._reader, self._on_inputs = reader, on_inputs

    def padded_rows(self, num_rows: int) -> int:
        return num_rows  # padding would be inputs, too

    def pack_linear(
        self, weight: torch.Tensor | Fp8Matrix, bias: torch.Tensor | None = None
    ) -> ReferenceLinear:
        return ReferenceLinear(functools.partial(self._multiply, weight, bias), (1,), None)

    def linear(self, x: torch.Tensor, weight: ReferenceLinear) -> torch.Tensor:
        return weight.function(x)  # all rows at once: the matrix is read once

    def _multiply(self, group: object, bias: torch.Tensor | None, x: torch.Tensor) -> torch.Tensor:
        assert isinstance(group, MatrixGroup), "logits are not computed"
        self._on_inputs(group, x)
        outputs = torch.cat([F.linear(x, self._read(name)) for name in group.names], dim=1)
        return outputs if bias is None else outputs.add_(bias)

    def _read(self, name: str) -> torch.Tensor:
        return self._reader.read(f"{name}.weight").to(self.device, torch.float32)
