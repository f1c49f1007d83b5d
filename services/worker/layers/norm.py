"""Root-mean-square normalisation."""

from __future__ import annotations

import torch

from services.worker.layers.parts import Parts


class RMSNorm:
    """x [T, hidden] float32 -> [T, hidden] in the dtype of the activations."""

    def __init__(self, parts: Parts, name: str) -> None:
        self._kernels, self._eps = parts.kernels, parts.config.rms_norm_eps
        self.weight = parts.weights.vector(name, size=parts.config.hidden_size)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self._kernels.rms_norm(x, self.weight, self._eps)


class HeadNorm:
    """Normalises each head by itself: x [T, heads, head_dim] -> the same, in its dtype."""

    def __init__(self, parts: Parts, name: str) -> None:
        self._kernels, self._eps = parts.kernels, parts.config.rms_norm_eps
        self.weight = parts.weights.vector(name, size=parts.config.head_dim)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        heads = x.reshape(-1, x.shape[-1]).float()
        return self._kernels.rms_norm(heads, self.weight, self._eps).view(x.shape)
