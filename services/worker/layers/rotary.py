"""The angles of rotary position embeddings, computed once for every position."""

from __future__ import annotations

import torch

from services.worker.model_config import ModelConfig


class RotaryTable:
    """positions [T] -> cos and sin, each [T, 1, head_dim] float32.

    Angle i of position p is p * theta^(-2i / head_dim), for i < head_dim / 2 (Su et al. 2021,
    section 3.2.2), laid out for checkpoints in Hugging Face's convention: the pair of element i is
    element i + head_dim / 2. Both halves of a row repeat the angles, and the first half of sin is
    negated, as Kernels.rotary wants it. The table stays float32 whatever the model's dtype.
    """

    def __init__(self, config: ModelConfig, device: torch.device) -> None:
        half = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
        frequencies = 1.0 / (config.rope_theta**half)
        positions = torch.arange(config.max_context, dtype=torch.float32)
        angles = torch.outer(positions, frequencies)  # [max context, head_dim / 2]
        self._cos = torch.cat((angles.cos(), angles.cos()), -1)[:, None].to(device)
        self._sin = torch.cat((-angles.sin(), angles.sin()), -1)[:, None].to(device)

    def __call__(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self._cos.index_select(0, positions), self._sin.index_select(0, positions)
