"""A matrix, packed once for the kernels."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from services.worker.checkpoint.weights import Matrix
from services.worker.kernels import PackedLinear
from services.worker.layers.parts import Parts


class Linear:
    """x [T, in] -> [T, out]: several matrices with the same input in one product, with the biases
    that the configuration names. Matrices that are not rounded alike take a product each.

    `rows` are the outputs of each of `names`, `columns` their inputs, `unit` what must stay on one
    rank (a head). Where the checkpoint's placement deals a matrix out by inputs ("row"), each rank
    has a summand of every output, and the ranks are summed here: a model never mentions ranks.
    """

    def __init__(
        self,
        parts: Parts,
        names: Sequence[str],
        *,
        rows: Sequence[int],
        columns: int,
        unit: int = 1,
    ) -> None:
        self._kernels, self._group = parts.kernels, parts.group
        self._summed = parts.weights.placement(names[0]) == "row"
        biases = [
            parts.weights.bias(name, rows=num_rows, unit=unit)
            for name, num_rows in zip(names, rows, strict=True)
            if name.rpartition(".")[2] in parts.config.biases
        ]
        assert len(biases) in (0, len(names)), f"some of {names} have a bias"
        matrices = parts.weights.stacked(names, rows=rows, columns=columns, unit=unit)
        self.packed = self._pack(matrices, torch.cat(biases) if biases else None)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        results = [self._kernels.linear(x, packed) for packed in self.packed]
        result = results[0] if len(results) == 1 else torch.cat(results, dim=1)
        return self._group.all_reduce(result) if self._summed else result

    def _pack(self, matrices: list[Matrix], bias: torch.Tensor | None) -> list[PackedLinear]:
        """Takes the matrices out of their list, so that each can go once it is packed."""
        biases: Sequence[torch.Tensor | None] = [None] * len(matrices)
        if bias is not None:
            biases = torch.split(bias, [matrix.shape[0] for matrix in matrices])
        return [self._kernels.pack_linear(matrices.pop(0), each) for each in biases]


class GatedLinear(Linear):
    """x [T, in] -> [T, width] = silu(gate(x)) * up(x); `names` are gate and up."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if len(self.packed) == 1:
            return self._kernels.gated_linear(x, self.packed[0])
        return self._kernels.silu_mul(super().__call__(x))

    def _pack(self, matrices: list[Matrix], bias: torch.Tensor | None) -> list[PackedLinear]:
        if len(matrices) == 1:
            return [self._kernels.pack_gated(matrices.pop(0), bias)]
        return super()._pack(matrices, bias)
