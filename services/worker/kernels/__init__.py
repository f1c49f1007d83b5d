"""The operations that a model is made of, and the backend, chosen once.

A backend is one object with these methods. `reference` is the specification: the others are tested
equal to it by the same calls. T is the number of rows of a step, padded by `padded_rows`; a row's
result never depends, in any bit, on T, on its place, or on what the other rows hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import structlog
import torch

from octavo.errors import invalid_field
from services.worker.batch import Batch
from services.worker.cpu_library.choice import can_compute
from services.worker.fp8_matrix import Fp8Matrix
from services.worker.kernels.cpu.kernels import CpuKernels
from services.worker.kernels.cpu.library import load_library
from services.worker.kernels.kv_cache import KVCache, LayerCache
from services.worker.kernels.layer_weights import LayerWeights
from services.worker.kernels.reference import ReferenceKernels

log = structlog.get_logger()

# What a backend makes of a weight matrix, or of a step's attention: only the backend looks inside.
PackedLinear: TypeAlias = Any
AttentionPlan: TypeAlias = Any

Backend: TypeAlias = str  # auto, reference, or the instruction set of compiled kernels


class FusedLayers(Protocol):
    """Decoder layers, whole."""

    def __call__(
        self,
        hidden: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        caches: Sequence[LayerCache],
        plans: Sequence[AttentionPlan],
    ) -> None:
        """Adds attention and MLP to hidden [T, hidden size] float32, in place, layer after layer.

        The backend may keep what it makes of `caches`: the same sequence holds the same caches.
        """


class Kernels(Protocol):
    """The interface of a backend. 16-bit `dtype` below is the dtype of the activations."""

    device: torch.device
    dtype: torch.dtype
    name: str  # of the backend, and of what decides its bits
    block_tokens_multiple: int  # what a KV block's tokens must divide
    block_tokens_unit: int  # and what must divide them

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

    def pack_gated(
        self, weight: torch.Tensor | Fp8Matrix, bias: torch.Tensor | None = None
    ) -> PackedLinear:
        """Lays out a matrix [2 * width, in] for `gated_linear`: the gate's rows, then up's."""

    def gated_linear(self, x: torch.Tensor, weight: PackedLinear) -> torch.Tensor:
        """silu(gate) * up of x [T, in] times the matrix: [T, width] in dtype."""

    def pack_head(self, weight: torch.Tensor | Fp8Matrix) -> PackedLinear:
        """Lays out a matrix [vocabulary, in] for `logits`."""

    def logits(self, x: torch.Tensor, head: PackedLinear) -> torch.Tensor:
        """x [T, in] times the matrix: [T, vocabulary] float32, rounded to dtype or not at all."""

    def argmax(self, logits: torch.Tensor) -> torch.Tensor:
        """Of each row of logits [L, vocabulary] float32 the lowest id of the largest, [L] int64; -1
        where one of them is not finite.
        """

    def zeros(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """Memory that every step reads; its pages may be given out when they are first written."""

    def fuse_layers(self, layers: Sequence[LayerWeights[PackedLinear]]) -> FusedLayers | None:
        """Neighbouring layers in one call; None where their operations are called one by one."""

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
    device: torch.device,
    dtype: torch.dtype,
    *,
    head_dim: int,
    fp8_activations: bool = False,
    fp8_kv_cache: bool = False,
    backend: Backend = "auto",
) -> Kernels:
    """The backend for this device and dtype of the activations: the compiled one on CPUs where it
    was built and can compute such a model, else the reference. Raises InvalidArgumentError where
    the one that was named cannot.

    fp8_activations: matrices in FP8 have their inputs rounded to FP8 too, where they declare how.
    fp8_kv_cache: keys and values are stored in FP8.
    """
    is_computed = can_compute(
        str(dtype).removeprefix("torch."),
        head_dim=head_dim,
        fp8_kv_cache=fp8_kv_cache,
    )
    is_named = backend not in ("auto", "reference")
    if backend != "reference" and device.type == "cpu" and is_computed:
        library = load_library(backend if is_named else None)
        if library is not None:
            return CpuKernels(library, torch.get_num_threads(), fp8_activations=fp8_activations)
    if is_named:
        limit = "auto or reference: these are not built, or do not fit this machine or this model"
        raise invalid_field("kernels", backend, limit)
    if backend == "auto" and device.type == "cpu" and is_computed:
        log.warning(
            "CPU kernels are not built: the reference backend runs, 3 to 10 times slower",
            command="make setup",
        )
    return ReferenceKernels(device, dtype, fp8_activations=fp8_activations)


__all__ = [
    "AttentionPlan",
    "Backend",
    "FusedLayers",
    "KVCache",
    "Kernels",
    "LayerCache",
    "PackedLinear",
    "choose_kernels",
]
