"""The operations of `Kernels` on the compiled library."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import byref

import torch
import torch.nn.functional as F

from services.worker.batch import Batch
from services.worker.cpu_library.choice import LANES
from services.worker.fp8_matrix import Fp8Matrix
from services.worker.kernels.attention_plan import KEY_TILE
from services.worker.kernels.cpu.fused_layers import FusedLayers
from services.worker.kernels.cpu.large_pages import LargePages, Memory, large_zeros
from services.worker.kernels.cpu.library import (
    SILU_MUL,
    STORE_BF16,
    STORE_F32,
    Library,
    cache_of,
)
from services.worker.kernels.cpu.packed_matrix import INPUT_GROUP, PackedMatrix
from services.worker.kernels.cpu.plan import CpuAttentionPlan, plan_attention
from services.worker.kernels.fp8_inputs import round_inputs
from services.worker.kernels.kv_cache import KVCache, LayerCache
from services.worker.kernels.layer_weights import LayerWeights


class CpuKernels:
    """Bfloat16 activations; weights as FP8 or bfloat16. Row-invariant for any number of threads."""

    device = torch.device("cpu")
    dtype = torch.bfloat16
    block_tokens_multiple = KEY_TILE
    block_tokens_unit = LANES

    def __init__(
        self,
        library: Library,
        num_threads: int,
        *,
        fp8_activations: bool = False,
        memory: Memory | None = None,
    ) -> None:
        """fp8_activations: inputs are rounded as a matrix declares it; then no layer is fused.
        `memory` for packed matrices; None: in large pages.
        """
        self.name = f"cpu {library.instruction_set}"
        self._library, self._memory = library, memory or LargePages()
        self._fp8_activations = fp8_activations
        self._team = library.team_create(num_threads, None, 0)

    def padded_rows(self, num_rows: int) -> int:
        return num_rows

    def pack_linear(
        self, weight: Fp8Matrix | torch.Tensor, bias: torch.Tensor | None = None
    ) -> PackedMatrix:
        return self._pack(weight, bias, STORE_BF16)

    def pack_gated(
        self, weight: Fp8Matrix | torch.Tensor, bias: torch.Tensor | None = None
    ) -> PackedMatrix:
        return self._pack(weight, bias, SILU_MUL)

    def pack_head(self, weight: Fp8Matrix | torch.Tensor) -> PackedMatrix:
        return self._pack(weight, None, STORE_F32)

    def fuse_layers(self, layers: Sequence[LayerWeights[PackedMatrix]]) -> FusedLayers | None:
        sizes = {size for each in layers for size in (each.qkv.num_inputs, each.down.num_inputs)}
        rounds = any(
            packed.inputs is not None
            for each in layers
            for packed in (each.qkv, each.out, each.gate_up, each.down)
        )
        if rounds or any(size % INPUT_GROUP for size in sizes):
            return None
        return FusedLayers(self._library, self._team, layers)

    def linear(self, x: torch.Tensor, weight: PackedMatrix) -> torch.Tensor:
        return self._multiply(x, weight, self.dtype)

    def logits(self, x: torch.Tensor, head: PackedMatrix) -> torch.Tensor:
        return self._multiply(x, head, torch.float32)

    def argmax(self, logits: torch.Tensor) -> torch.Tensor:
        logits = logits.contiguous()
        ids = torch.empty(logits.shape[0], dtype=torch.int64)
        self._library.argmax(self._team, logits.data_ptr(), *logits.shape, ids.data_ptr())
        return ids

    def embedding(self, ids: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        return F.embedding(ids, table).float()

    def rms_norm(self, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        x = x.contiguous()
        out = torch.empty(x.shape, dtype=self.dtype)
        self._library.rms_norm(
            self._team, x.data_ptr(), weight.data_ptr(), eps, *x.shape, out.data_ptr()
        )
        return out

    def rotary(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        x = _with_whole_rows(x)
        out = torch.empty(x.shape, dtype=torch.float32)
        self._library.rotary(
            self._team,
            x.data_ptr(),
            x.dtype == torch.float32,
            x.stride(0),
            cos.data_ptr(),
            sin.data_ptr(),
            *x.shape,
            out.data_ptr(),
        )
        return out

    def gated_linear(self, x: torch.Tensor, weight: PackedMatrix) -> torch.Tensor:
        return self.linear(x, weight)

    def silu_mul(self, gate_up: torch.Tensor) -> torch.Tensor:
        gate_up = gate_up.contiguous()
        num_rows, width = gate_up.shape[0], gate_up.shape[1] // 2
        out = torch.empty(num_rows, width, dtype=self.dtype)
        self._library.silu_mul(self._team, gate_up.data_ptr(), num_rows, width, out.data_ptr())
        return out

    def plan_attention(
        self, batch: Batch, cache: KVCache, num_heads: int, window: int | None = None
    ) -> CpuAttentionPlan:
        return plan_attention(self._library, batch, cache, num_heads, window)

    def write_kv(
        self,
        key: torch.Tensor,
        value: torch.Tensor,
        layer: LayerCache,
        plan: CpuAttentionPlan,
    ) -> None:
        key, value = _with_whole_rows(key.float()), _with_whole_rows(value.to(self.dtype))
        self._library.write_kv(
            self._team,
            byref(cache_of(layer)),
            byref(plan.rows),
            key.data_ptr(),
            key.stride(0),
            value.data_ptr(),
            value.stride(0),
        )

    def attend(
        self,
        query: torch.Tensor,
        layer: LayerCache,
        plan: CpuAttentionPlan,
        scale: float,
    ) -> torch.Tensor:
        query = _with_whole_rows(query.float())
        num_rows, num_heads, head_dim = query.shape
        out = torch.empty(num_rows, num_heads * head_dim, dtype=self.dtype)
        self._library.attend(
            self._team,
            byref(cache_of(layer)),
            byref(plan.rows),
            query.data_ptr(),
            query.stride(0),
            num_heads,
            scale,
            plan.scratch.data_ptr(),
            out.data_ptr(),
        )
        return out

    def zeros(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        return large_zeros(shape, dtype)

    def _pack(
        self, weight: Fp8Matrix | torch.Tensor, bias: torch.Tensor | None, epilogue: int
    ) -> PackedMatrix:
        packed = PackedMatrix(self._library, self._memory, weight, bias, epilogue=epilogue)
        if self._fp8_activations and isinstance(weight, Fp8Matrix):
            packed.inputs = weight.inputs
        return packed

    def _multiply(
        self, x: torch.Tensor, weight: PackedMatrix, out_dtype: torch.dtype
    ) -> torch.Tensor:
        if weight.inputs is not None:
            x = round_inputs(x, weight.inputs)
        x = weight.padded(x.contiguous())
        out = torch.empty(x.shape[0], weight.out_width, dtype=out_dtype)
        matrix = byref(weight.matrix)
        self._library.linear(self._team, matrix, x.data_ptr(), x.shape[0], out.data_ptr())
        return out


def _with_whole_rows(x: torch.Tensor) -> torch.Tensor:
    """x [T, heads, head_dim] whose heads lie one after the other; rows may lie apart."""
    is_whole = x.stride(2) == 1 and (x.shape[1] == 1 or x.stride(1) == x.shape[2])
    return x if is_whole else x.contiguous()
