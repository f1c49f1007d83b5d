"""A matrix, packed once for the kernels."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from services.worker.layers.parts import Parts


class Linear:
    """x [T, in] -> [T, out]: several matrices with the same input in one product, with the biases
    that the configuration names.

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
        matrices = [
            parts.weights.matrix(name, rows=num_rows, columns=columns, unit=unit)
            for name, num_rows in zip(names, rows, strict=True)
        ]
        biases = [
            parts.weights.bias(name, rows=num_rows, unit=unit)
            for name, num_rows in zip(names, rows, strict=True)
            if name.rpartition(".")[2] in parts.config.biases
        ]
        assert len(biases) in (0, len(names)), f"some of {names} have a bias"
        self._packed = self._kernels.pack_linear(
            matrices[0] if len(matrices) == 1 else torch.cat(matrices),
            torch.cat(biases) if biases else None,
        )

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        result = self._kernels.linear(x, self._packed)
        return self._group.all_reduce(result) if self._summed else result
