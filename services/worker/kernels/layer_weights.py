"""What a decoder layer of the Llama family is made of, for a backend that computes it whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

Packed = TypeVar("Packed")


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerWeights(Generic[Packed]):
    """Packed matrices, and norms in float32; heads are those of this rank."""

    qkv: Packed
    out: Packed
    gate_up: Packed  # packed as gated
    down: Packed
    attention_norm: torch.Tensor  # [hidden size]
    mlp_norm: torch.Tensor  # [hidden size]
    query_norm: torch.Tensor | None  # [head_dim], before queries are turned
    key_norm: torch.Tensor | None
    num_heads: int
    norm_eps: float
    scale: float  # of the scores
