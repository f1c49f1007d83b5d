"""A decoder layer given to the backend as a whole, where the backend computes it so."""

from __future__ import annotations

import torch

from services.worker.kernels import FusedLayer
from services.worker.kernels.layer_weights import LayerWeights
from services.worker.layers.attention import PagedAttention, StepContext
from services.worker.layers.linear import GatedLinear, Linear
from services.worker.layers.norm import RMSNorm
from services.worker.layers.parts import Parts


class WholeLayer:
    """hidden [T, hidden size] float32, changed in place: norm, attention, norm, gated MLP."""

    def __init__(self, fused: FusedLayer, attention: PagedAttention) -> None:
        self._fused, self._attention = fused, attention

    def __call__(self, hidden: torch.Tensor, step: StepContext) -> None:
        layer, plan = self._attention.layer_of(step), self._attention.plan_of(step)
        self._fused(hidden, step.cos, step.sin, layer, plan)


def fuse(
    parts: Parts,
    *,
    attention_norm: RMSNorm,
    qkv: Linear,
    attention: PagedAttention,
    out: Linear,
    mlp_norm: RMSNorm,
    gate_up: GatedLinear,
    down: Linear,
) -> WholeLayer | None:
    """None where the backend computes operation by operation, where ranks must be summed between
    operations, and where matrices of one product are not stored alike.
    """
    if parts.group.size > 1 or any(len(each.packed) > 1 for each in (qkv, out, gate_up, down)):
        return None
    query_norm, key_norm = attention.query_norm, attention.key_norm
    weights = LayerWeights(
        qkv=qkv.packed[0],
        out=out.packed[0],
        gate_up=gate_up.packed[0],
        down=down.packed[0],
        attention_norm=attention_norm.weight,
        mlp_norm=mlp_norm.weight,
        query_norm=None if query_norm is None else query_norm.weight,
        key_norm=None if key_norm is None else key_norm.weight,
        num_heads=parts.config.num_heads,
        norm_eps=parts.config.rms_norm_eps,
        scale=attention.scale,
    )
    fused = parts.kernels.fuse_layer(weights)
    return None if fused is None else WholeLayer(fused, attention)
