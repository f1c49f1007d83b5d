"""Attention of one layer over the paged cache: write the new keys and values, then attend."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from services.worker.kernels import AttentionPlan, KVCache
from services.worker.layers.parts import Parts


@dataclass(frozen=True, slots=True)
class StepContext:
    """What all layers of one step share."""

    cos: torch.Tensor  # [T, 1, head_dim], as sin
    sin: torch.Tensor
    cache: KVCache
    plan: AttentionPlan


class PagedAttention:
    """The fused query, key and value rows of a step -> the heads' outputs.

    qkv [T, (heads + 2 x KV heads) x head_dim] -> [T, heads x head_dim], in dtype. The heads are
    those of this rank: they are counted from the width and the cache.
    """

    def __init__(self, parts: Parts, layer: int) -> None:
        self._kernels, self._layer = parts.kernels, layer
        self._head_dim = parts.config.head_dim
        self._scale = self._head_dim**-0.5

    def __call__(self, qkv: torch.Tensor, step: StepContext) -> torch.Tensor:
        num_kv_heads = step.cache.num_kv_heads
        heads = qkv.view(qkv.shape[0], -1, self._head_dim)  # queries, then keys, then values
        num_heads = heads.shape[1] - 2 * num_kv_heads
        turned, value = torch.split(heads, [num_heads + num_kv_heads, num_kv_heads], dim=1)
        turned = self._kernels.rotary(turned, step.cos, step.sin)
        query, key = torch.split(turned, [num_heads, num_kv_heads], dim=1)
        layer = step.cache.layer(self._layer)
        self._kernels.write_kv(key, value, layer, step.plan)
        return self._kernels.attend(query, layer, step.plan, self._scale)
