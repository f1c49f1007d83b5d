"""A decoder layer of the Llama family in one call of the library."""

from __future__ import annotations

from ctypes import byref, pointer
from typing import Any

import torch

from services.worker.kernels.cpu.library import (
    ADD_F32,
    SILU_MUL,
    STORE_BF16,
    Layer,
    LayerRows,
    Library,
    Matrix,
    cache_of,
)
from services.worker.kernels.cpu.packed_matrix import PackedMatrix
from services.worker.kernels.cpu.plan import CpuAttentionPlan
from services.worker.kernels.kv_cache import LayerCache
from services.worker.kernels.layer_weights import LayerWeights


class FusedLayer:
    """hidden [T, hidden size] float32, changed in place."""

    def __init__(self, library: Library, team: Any, weights: LayerWeights[PackedMatrix]) -> None:
        self._library, self._team, self._weights = library, team, weights
        self._layer = Layer(
            qkv=_matrix(weights.qkv, STORE_BF16),
            out=_matrix(weights.out, ADD_F32),
            gate_up=_matrix(weights.gate_up, SILU_MUL),
            down=_matrix(weights.down, ADD_F32),
            attention_norm=weights.attention_norm.data_ptr(),
            mlp_norm=weights.mlp_norm.data_ptr(),
            query_norm=None if weights.query_norm is None else weights.query_norm.data_ptr(),
            key_norm=None if weights.key_norm is None else weights.key_norm.data_ptr(),
            num_heads=weights.num_heads,
            norm_eps=weights.norm_eps,
            scale=weights.scale,
        )

    def __call__(
        self,
        hidden: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        cache: LayerCache,
        plan: CpuAttentionPlan,
    ) -> None:
        place = cache_of(cache)
        if plan.layer_rows is None:
            plan.layer_rows = self._rows(hidden, cos, sin, plan)
        rows = byref(plan.layer_rows)
        self._library.run_layer(self._team, byref(self._layer), byref(place), rows)

    def _rows(
        self, hidden: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, plan: CpuAttentionPlan
    ) -> LayerRows:
        """The memory that all layers of a step share."""
        weights, num_rows = self._weights, hidden.shape[0]
        assert hidden.is_contiguous() and cos.is_contiguous() and sin.is_contiguous()
        qkv_width, width = weights.qkv.num_outputs, weights.out.num_inputs
        turned_width = (qkv_width + width) // 2  # queries and keys
        memory = {
            "normed": torch.empty(num_rows, weights.qkv.num_inputs, dtype=torch.bfloat16),
            "qkv": torch.empty(num_rows, qkv_width, dtype=torch.bfloat16),
            "turned": torch.empty(num_rows, turned_width, dtype=torch.float32),
            "attended": torch.empty(num_rows, width, dtype=torch.bfloat16),
            "gated": torch.empty(num_rows, weights.down.num_inputs, dtype=torch.bfloat16),
            "hidden": hidden,
            "cos": cos,
            "sin": sin,
            "scratch": plan.scratch,
        }
        plan.kept += tuple(memory.values())
        pointers = {name: tensor.data_ptr() for name, tensor in memory.items()}
        return LayerRows(rows=pointer(plan.rows), **pointers)


def _matrix(packed: PackedMatrix, epilogue: int) -> Matrix:
    """A copy that ends otherwise: the layout is the same for all but gated matrices."""
    matrix = Matrix.from_buffer_copy(packed.matrix)
    assert (matrix.epilogue == SILU_MUL) == (epilogue == SILU_MUL)
    matrix.epilogue = epilogue
    return matrix
