"""The angles of rotary position embeddings, computed once for every position."""

from __future__ import annotations

import math

import torch

from services.worker.model_config import Llama3Scaling, ModelConfig, RopeConfig, YarnScaling

# Positions whose angles are computed at once, always so many: the last bit of a cosine may depend
# on where torch finds the element, and tables of all lengths shall agree.
_PIECE = 128


class RotaryTable:
    """positions [T] -> cos and sin, each [T, 1, head_dim] float32, of the positions it covers.

    Angle i of position p is p * theta^(-2i / head_dim), for i < head_dim / 2 (Su et al. 2021,
    section 3.2.2), scaled as the configuration says, laid out for checkpoints in Hugging Face's
    convention: the pair of element i is element i + head_dim / 2. Both halves of a row repeat the
    angles, and the first half of sin is negated, as Kernels.rotary wants it. The table stays
    float32 whatever the model's dtype.
    """

    def __init__(self, config: ModelConfig, device: torch.device) -> None:
        self._frequencies = frequencies(config.rope, config.head_dim)
        scaling = config.rope.scaling
        self._length = scaling.length if isinstance(scaling, YarnScaling) else 1.0
        self._max_context = config.max_context
        self._table = torch.empty(0, 2, config.head_dim // 2, device=device)  # cos and sin

    def cover(self, num_positions: int) -> None:
        """Computes the table up to there: contexts of a million tokens are stated, not reached."""
        num_pieces = -(-min(num_positions, self._max_context) // _PIECE)
        if num_pieces * _PIECE > self._table.shape[0]:
            pieces = [self._piece(first * _PIECE) for first in range(num_pieces)]
            self._table = torch.cat(pieces).to(self._table.device)

    def __call__(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        cos, sin = self._table.index_select(0, positions).unbind(1)
        return torch.cat((cos, cos), -1)[:, None], torch.cat((-sin, sin), -1)[:, None]

    def _piece(self, first: int) -> torch.Tensor:
        """[_PIECE, 2, head_dim / 2]."""
        positions = torch.arange(first, first + _PIECE, dtype=torch.float32)
        angles = torch.outer(positions, self._frequencies)
        return torch.stack((angles.cos(), angles.sin()), 1) * self._length


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
