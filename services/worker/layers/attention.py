"""Attention of one layer over the paged cache: write the new keys and values, then attend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from services.worker.kernels import AttentionPlan, KVCache, LayerCache
from services.worker.layers.norm import HeadNorm
from services.worker.layers.parts import Parts


@dataclass(frozen=True, slots=True)
class StepContext:
    """What all layers of one step share."""

    cos: torch.Tensor  # [T, 1, head_dim], as sin
    sin: torch.Tensor
    cache: KVCache
    plans: Mapping[int | None, AttentionPlan]  # by the window of a layer


class PagedAttention:
    """The fused query, key and value rows of a step -> the heads' outputs.

    qkv [T, (heads + 2 x KV heads) x head_dim] -> [T, heads x head_dim], in dtype. The heads are
    those of this rank: they are counted from the width and the cache. Norms, where there are some,
    come before the heads are turned.
    """

    def __init__(
        self,
        parts: Parts,
        name: str,
        layer: int,
        *,
        query_norm: HeadNorm | None = None,
        key_norm: HeadNorm | None = None,
    ) -> None:
        self._kernels, self._layer = parts.kernels, layer
        self._kv_scales = parts.weights.kv_scales(name)
        self._window = parts.config.windows[layer]
        self.query_norm, self.key_norm = query_norm, key_norm
        self._head_dim = parts.config.head_dim
        self.scale = self._head_dim**-0.5

    def layer_of(self, step: StepContext) -> LayerCache:
        """Where the keys and values of this layer lie."""
        return step.cache.layer(self._layer, self._kv_scales)

    def plan_of(self, step: StepContext) -> AttentionPlan:
        """The plan of layers with this one's window."""
        return step.plans[self._window]

    def __call__(self, qkv: torch.Tensor, step: StepContext) -> torch.Tensor:
        num_kv_heads = step.cache.num_kv_heads
        heads = qkv.view(qkv.shape[0], -1, self._head_dim)  # queries, then keys, then values
        num_heads = heads.shape[1] - 2 * num_kv_heads
        turned, value = torch.split(heads, [num_heads + num_kv_heads, num_kv_heads], dim=1)
        if self.query_norm and self.key_norm:
            query, key = torch.split(turned, [num_heads, num_kv_heads], dim=1)
            turned = torch.cat((self.query_norm(query), self.key_norm(key)), dim=1)
        turned = self._kernels.rotary(turned, step.cos, step.sin)
        query, key = torch.split(turned, [num_heads, num_kv_heads], dim=1)
        layer, plan = self.layer_of(step), self.plan_of(step)
        self._kernels.write_kv(key, value, layer, plan)
        return self._kernels.attend(query, layer, plan, self.scale)
