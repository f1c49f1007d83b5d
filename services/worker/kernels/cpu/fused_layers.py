"""Decoder layers of the Llama family in one call of the library."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import POINTER, pointer
from typing import TYPE_CHECKING, Any

import torch

from services.worker.kernels.cpu.library import (
    ADD_F32,
    SILU_MUL,
    STORE_BF16,
    Cache,
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

if TYPE_CHECKING:
    from ctypes import _Pointer


class FusedLayers:
    """hidden [T, hidden size] float32, changed in place."""

    def __init__(
        self, library: Library, team: Any, layers: Sequence[LayerWeights[PackedMatrix]]
    ) -> None:
        self._library, self._team, self._weights = library, team, layers
        self._layers = (Layer * len(layers))(*map(_layer, layers))
        self._caches: Sequence[LayerCache] = ()
        self._places = (Cache * 0)()

    def __call__(
        self,
        hidden: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        caches: Sequence[LayerCache],
        plans: Sequence[CpuAttentionPlan],
    ) -> None:
        if caches is not self._caches:
            self._caches, self._places = caches, (Cache * len(caches))(*map(cache_of, caches))
        rows = [self._rows_of(plan, hidden, cos, sin) for plan in plans]
        steps = (POINTER(LayerRows) * len(rows))(*rows)
        self._library.run_layers(self._team, self._layers, self._places, steps, len(plans))

    def _rows_of(
        self, plan: CpuAttentionPlan, hidden: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> _Pointer[LayerRows]:
        if plan.layer_rows is None:
            plan.layer_rows = pointer(self._make_rows(plan, hidden, cos, sin))
        return plan.layer_rows

    def _make_rows(
        self, plan: CpuAttentionPlan, hidden: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> LayerRows:
        """The memory that the layers of one plan share."""
        weights, num_rows = self._weights[0], hidden.shape[0]
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


def _layer(weights: LayerWeights[PackedMatrix]) -> Layer:
    return Layer(
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


def _matrix(packed: PackedMatrix, epilogue: int) -> Matrix:
    """A copy that ends otherwise: the layout is the same for all but gated matrices."""
    matrix = Matrix.from_buffer_copy(packed.matrix)
    assert (matrix.epilogue == SILU_MUL) == (epilogue == SILU_MUL)
    matrix.epilogue = epilogue
    return matrix
