"""The operations that a model is made of, and the backend, chosen once.

A backend is one object with these methods. `reference` is the specification: the others are tested
equal to it by the same calls. T is the number of rows of a step, padded by `padded_rows`; a row's
result never depends, in any bit, on T, on its place, or on what the other rows hold.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import torch

from services.worker.batch import Batch
from services.worker.fp8_matrix import Fp8Matrix
from services.worker.kernels.kv_cache import KVCache, LayerCache
from services.worker.kernels.reference import ReferenceKernels

# What a backend makes of a weight matrix, or of a step's attention: only the backend looks inside.
PackedLinear: TypeAlias = Any
AttentionPlan: TypeAlias = Any


class Kernels(Protocol):
    """The interface of a backend. 16-bit `dtype` below is the dtype of the activations."""

    device: torch.device
    dtype: torch.dtype
    block_tokens_multiple: int  # what a KV block's tokens must divide

    def padded_rows(self, num_rows: int) -> int:
        """The rows that a step of `num_rows` tokens is padded to."""

    def pack_linear(
        self, weight: torch.Tensor | Fp8Matrix, bias: torch.Tensor | None = None
    ) -> PackedLinear:
        """Lays out a matrix [out, in] for `linear`, and the bias [out] that it adds.

        The matrix is in dtype, or in FP8 as it is stored.
        """

    def linear(self, x: torch.Tensor, weight: PackedLinear) -> torch.Tensor:
        """x [T, in] times the matrix, plus the bias where there is one: [T, out], in dtype.

        Accumulated in float32 and rounded once. With FP8 activations, x is first rounded as the
        matrix declares it (Fp8Matrix.inputs).
        """

    def embedding(self, ids: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        """Rows of `table` [vocabulary, hidden] for ids [T]: [T, hidden] float32."""

    def rms_norm(self, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        """x [T, hidden] float32, weight [hidden] float32: [T, hidden] in dtype."""

    def rotary(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """x [T, heads, head_dim], cos and sin [T, 1, head_dim]: the same shape, float32."""

    def silu_mul(self, gate_up: torch.Tensor) -> torch.Tensor:
        """silu(gate) * up of gate_up [T, 2 * width]: [T, width] in dtype."""

    def plan_attention(
        self, batch: Batch, cache: KVCache, num_heads: int, window: int | None = None
    ) -> AttentionPlan:
        """What the attention of this step shares in all layers of one window.

        window: how many of the latest tokens a token sees, itself among them; None: all.
        """

    def write_kv(
        self,
        key: torch.Tensor,
        value: torch.Tensor,
        layer: LayerCache,
        plan: AttentionPlan,
    ) -> None:
        """Stores key and value [T, KV heads, head_dim] in the slots of the step's rows."""

    def attend(
        self,
        query: torch.Tensor,
        layer: LayerCache,
        plan: AttentionPlan,
        scale: float,
    ) -> torch.Tensor:
        """Causal attention of query [T, heads, head_dim]: [T, heads * head_dim] in dtype."""


def choose_kernels(
    device: torch.device, dtype: torch.dtype, *, fp8_activations: bool = False
) -> Kernels:
    """The backend for this device and dtype of the activations.

    fp8_activations: matrices in FP8 have their inputs rounded to FP8 too, where they declare how.
    """
    return ReferenceKernels(device, dtype, fp8_activations=fp8_activations)


__all__ = [
    "AttentionPlan",
    "KVCache",
    "Kernels",
    "LayerCache",
    "PackedLinear",
    "choose_kernels",
]
