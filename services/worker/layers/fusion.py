"""The decoder's layers in order: given to the backend as a whole, where it computes them so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

import torch

from services.worker.kernels import FusedLayers, KVCache, LayerCache, PackedLinear
from services.worker.kernels.layer_weights import LayerWeights
from services.worker.layers.attention import PagedAttention, StepContext
from services.worker.layers.linear import GatedLinear, Linear
from services.worker.layers.norm import RMSNorm
from services.worker.layers.parts import Parts


@dataclass(frozen=True, kw_only=True, slots=True)
class Operations:
    """What a layer of the Llama family does, in order: norm, attention, norm, gated MLP."""

    attention_norm: RMSNorm
    qkv: Linear
    attention: PagedAttention
    out: Linear
    mlp_norm: RMSNorm
    gate_up: GatedLinear
    down: Linear


class DecoderLayer(Protocol):
    """A layer that computes itself, and says what it is made of."""

    operations: Operations

    def __call__(self, hidden: torch.Tensor, step: StepContext) -> None:
        """Adds attention and MLP to hidden [T, hidden size] float32, in place."""


class LayerStack:
    """All layers. Neighbours that the backend computes whole take one call."""

    def __init__(self, parts: Parts, layers: Sequence[DecoderLayer]) -> None:
        self._runs: list[Callable[[torch.Tensor, StepContext], None]] = []
        weights = [_weights(parts, layer.operations) for layer in layers]
        for is_whole, pairs in groupby(zip(layers, weights, strict=True), lambda p: bool(p[1])):
            group = list(pairs)
            whole = [each for _, each in group if each is not None]
            fused = parts.kernels.fuse_layers(whole) if is_whole else None
            if fused is None:
                self._runs += [layer for layer, _ in group]
            else:
                self._runs.append(
                    _WholeLayers(fused, [layer.operations.attention for layer, _ in group])
                )

    def __call__(self, hidden: torch.Tensor, step: StepContext) -> None:
        for run in self._runs:
            run(hidden, step)


class _WholeLayers:
    def __init__(self, fused: FusedLayers, attentions: Sequence[PagedAttention]) -> None:
        self._fused, self._attentions = fused, attentions
        self._cache: KVCache | None = None
        self._caches: Sequence[LayerCache] = ()

    def __call__(self, hidden: torch.Tensor, step: StepContext) -> None:
        if step.cache is not self._cache:  # there is one as long as a rank lives
            self._cache = step.cache
            self._caches = [each.layer_of(step) for each in self._attentions]
        plans = [each.plan_of(step) for each in self._attentions]
        self._fused(hidden, step.cos, step.sin, self._caches, plans)


def _weights(parts: Parts, operations: Operations) -> LayerWeights[PackedLinear] | None:
    """None where ranks must be summed between operations, and where matrices of one product are
    not stored alike.
    """
    qkv, out = operations.qkv.packed, operations.out.packed
    gate_up, down = operations.gate_up.packed, operations.down.packed
    if parts.group.size > 1 or any(len(packed) > 1 for packed in (qkv, out, gate_up, down)):
        return None
    attention = operations.attention
    query_norm, key_norm = attention.query_norm, attention.key_norm
    return LayerWeights(
        qkv=qkv[0],
        out=out[0],
        gate_up=gate_up[0],
        down=down[0],
        attention_norm=operations.attention_norm.weight,
        mlp_norm=operations.mlp_norm.weight,
        query_norm=None if query_norm is None else query_norm.weight,
        key_norm=None if key_norm is None else key_norm.weight,
        num_heads=parts.config.num_heads,
        norm_eps=parts.config.rms_norm_eps,
        scale=attention.scale,
    )
