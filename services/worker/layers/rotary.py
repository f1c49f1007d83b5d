"""The angles of rotary position embeddings, computed once for every position."""

from __future__ import annotations

import math

import torch

from services.worker.model_config import Llama3Scaling, ModelConfig, RopeConfig, YarnScaling


class RotaryTable:
    """positions [T] -> cos and sin, each [T, 1, head_dim] float32.

    Angle i of position p is p * theta^(-2i / head_dim), for i < head_dim / 2 (Su et al. 2021,
    section 3.2.2), scaled as the configuration says, laid out for checkpoints in Hugging Face's
    convention: the pair of element i is element i + head_dim / 2. Both halves of a row repeat the
    angles, and the first half of sin is negated, as Kernels.rotary wants it. The table stays
    float32 whatever the model's dtype.
    """

    def __init__(self, config: ModelConfig, device: torch.device) -> None:
        scaling = config.rope.scaling
        length = scaling.length if isinstance(scaling, YarnScaling) else 1.0
        positions = torch.arange(config.max_context, dtype=torch.float32)
        angles = torch.outer(positions, frequencies(config.rope, config.head_dim))
        cos, sin = angles.cos() * length, angles.sin() * length  # [max context, head_dim / 2]
        self._cos = torch.cat((cos, cos), -1)[:, None].to(device)
        self._sin = torch.cat((-sin, sin), -1)[:, None].to(device)

    def __call__(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self._cos.index_select(0, positions), self._sin.index_select(0, positions)


def frequencies(rope: RopeConfig, head_dim: int) -> torch.Tensor:
    """The angle of each pair per position, [head_dim / 2] float32."""
    half = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
    unscaled = 1.0 / (rope.theta**half)
    scaling = rope.scaling
    if scaling is None:
        return unscaled
    if isinstance(scaling, Llama3Scaling):
        kept = _kept_by_turns(unscaled, scaling)
    elif isinstance(scaling, YarnScaling):
        kept = _kept_by_index(rope.theta, head_dim, scaling)
    else:
        kept = torch.zeros_like(unscaled)
    return unscaled / scaling.factor * (1 - kept) + unscaled * kept


def _kept_by_turns(unscaled: torch.Tensor, scaling: Llama3Scaling) -> torch.Tensor:
    """How much of each frequency is kept, 0 to 1: by the turns it makes in the original context."""
    turns = unscaled * (scaling.original_context / (2 * math.pi))
    return ((turns - scaling.low_turns) / (scaling.high_turns - scaling.low_turns)).clamp(0, 1)


def _kept_by_index(theta: float, head_dim: int, scaling: YarnScaling) -> torch.Tensor:
    """The same with a ramp over indices (Peng et al. 2023, section 3.2)."""

    def index(turns: float) -> float:
        """The index of the frequency that makes so many turns in the original context."""
        longest = scaling.original_context / (turns * 2 * math.pi)
        return head_dim * math.log(longest) / (2 * math.log(theta))

    first, last = index(scaling.high_turns), index(scaling.low_turns)
    if scaling.whole:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, head_dim - 1)
    ramp = torch.arange(head_dim // 2, dtype=torch.float32) - first
    return 1 - (ramp / max(last - first, 0.001)).clamp(0, 1)
