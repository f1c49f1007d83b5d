"""The specification of every operation, in plain torch: clear before fast.

Two rules hold for every line:

* Sums are accumulated in float32 and rounded once, to the dtype of the activations.
* **Row invariance.** A row's bits do not depend on how many rows stand beside it, on its place
  among them, or on what they hold: row_tiles.py, attention_plan.py and elementwise.py say how.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from services.worker.batch import Batch
from services.worker.fp8_matrix import Fp8Matrix
from services.worker.input_scheme import InputScheme
from services.worker.kernels import reference_attention as attention
from services.worker.kernels.attention_plan import KEY_TILE, AttentionPlan, Tiling, plan_attention
from services.worker.kernels.elementwise import silu_
from services.worker.kernels.fp8_inputs import round_inputs
from services.worker.kernels.kv_cache import KVCache, LayerCache
from services.worker.kernels.layer_weights import LayerWeights
from services.worker.kernels.row_tiles import (
    SMALLEST_TILE,
    RowFunction,
    equal_row_tiles,
    in_tiles,
    row_function,
)


@dataclass(frozen=True, slots=True)
class ReferenceLinear:
    """A packed matrix, and the sizes of tiles that rows may come in, largest first.

    inputs: how x is rounded before it is multiplied; None: not at all.
    """

    function: RowFunction
    row_tiles: tuple[int, ...]
    inputs: InputScheme | None


class ReferenceKernels:
    """The operations of `Kernels`, on any device. Row invariance is promised on CPUs only.

    FP8 matrices are expanded to dtype when they are packed.
    """

    name = "reference"
    block_tokens_unit = 1

    def __init__(
        self, device: torch.device, dtype: torch.dtype, *, fp8_activations: bool = False
    ) -> None:
        self.device = device
        self.dtype = dtype
        self._fp8_activations = fp8_activations
        self.block_tokens_multiple = KEY_TILE
        if device.type == "cuda":
            _accumulate_in_float32()
        self._row_tiles: dict[tuple[torch.Size, bool], tuple[int, ...]] = {}
        self._tilings: dict[tuple[int, int], Tiling] = {}

    def padded_rows(self, num_rows: int) -> int:
        return -(-num_rows // SMALLEST_TILE) * SMALLEST_TILE

    def pack_linear(
        self, weight: torch.Tensor | Fp8Matrix, bias: torch.Tensor | None = None
    ) -> ReferenceLinear:
        inputs = None
        if isinstance(weight, Fp8Matrix):
            inputs = weight.inputs if self._fp8_activations else None
            weight = weight.expand(self.dtype)
        function = row_function(weight, bias)
        if self.device.type != "cpu":
            return ReferenceLinear(function, (1,), inputs)
        shape = (weight.shape, bias is not None)
        if shape not in self._row_tiles:
            width, dtype = weight.shape[1], weight.dtype
            self._row_tiles[shape] = equal_row_tiles(function, width, dtype)
        return ReferenceLinear(function, self._row_tiles[shape], inputs)

    def linear(self, x: torch.Tensor, weight: ReferenceLinear) -> torch.Tensor:
        if weight.inputs is not None:
            x = round_inputs(x, weight.inputs)
        if self.device.type != "cpu":
            return weight.function(x)
        return in_tiles(weight.function, x, weight.row_tiles)

    def pack_gated(
        self, weight: torch.Tensor | Fp8Matrix, bias: torch.Tensor | None = None
    ) -> ReferenceLinear:
        return self.pack_linear(weight, bias)

    def gated_linear(self, x: torch.Tensor, weight: ReferenceLinear) -> torch.Tensor:
        return self.silu_mul(self.linear(x, weight))

    def pack_head(self, weight: Fp8Matrix | torch.Tensor) -> ReferenceLinear:
        return self.pack_linear(weight)

    def logits(self, x: torch.Tensor, head: ReferenceLinear) -> torch.Tensor:
        return self.linear(x, head).float()

    def argmax(self, logits: torch.Tensor) -> torch.Tensor:
        """What is not finite makes a row's sum so, and a sum is one pass, a thirtieth of the time
        of looking at each; sums that only overflowed are looked at again.
        """
        ids = logits.argmax(dim=-1)
        for row in (~logits.sum(dim=-1).isfinite()).nonzero().flatten().tolist():
            if not logits[row].isfinite().all():
                ids[row] = -1
        return ids

    def zeros(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        return torch.zeros(*shape, dtype=dtype, device=self.device)

    def fuse_layers(self, layers: Sequence[LayerWeights[ReferenceLinear]]) -> None:
        """Never: each operation is called by itself."""

    def embedding(self, ids: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        return F.embedding(ids, table).float()

    def rms_norm(self, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        """x / sqrt(mean(x^2) + eps) * weight (Zhang and Sennrich 2019, equation 4)."""
        return F.rms_norm(x, weight.shape, weight, eps).to(self.dtype)

    def rotary(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """Turns the pair (x[i], x[i + head_dim / 2]) by the angle i of the row (Su et al. 2021).

        cos and sin are [T, 1, head_dim]: both halves hold the same angles, and the first half of
        sin is negated, so that one roll by half a head serves both members of a pair.
        """
        x = x.float()
        # Not addcmul, whose vector and scalar code may round differently.
        return (x * cos).add_(x.roll(x.shape[-1] // 2, -1).mul_(sin))

    def silu_mul(self, gate_up: torch.Tensor) -> torch.Tensor:
        width = gate_up.shape[1] // 2
        gate = gate_up[:, :width].to(
            torch.float32, memory_format=torch.contiguous_format, copy=True
        )
        return silu_(gate).mul_(gate_up[:, width:]).to(self.dtype)

    def plan_attention(
        self, batch: Batch, cache: KVCache, num_heads: int, window: int | None = None
    ) -> AttentionPlan:
        heads_per_kv_head = num_heads // cache.num_kv_heads
        return plan_attention(batch, cache, self._tiling(heads_per_kv_head, cache.head_dim), window)

    def write_kv(
        self,
        key: torch.Tensor,
        value: torch.Tensor,
        layer: LayerCache,
        plan: AttentionPlan,
    ) -> None:
        attention.write_kv(key, value, layer, plan)

    def attend(
        self,
        query: torch.Tensor,
        layer: LayerCache,
        plan: AttentionPlan,
        scale: float,
    ) -> torch.Tensor:
        return attention.attend(query, layer, plan, scale).to(self.dtype)

    def _tiling(self, heads_per_kv_head: int, head_dim: int) -> Tiling:
        """Compared once per shape, when the first step of that shape is planned."""
        shape = (heads_per_kv_head, head_dim)
        if shape not in self._tilings:
            self._tilings[shape] = attention.equal_tiling(*shape, device=self.device)
        return self._tilings[shape]


def _accumulate_in_float32() -> None:
    """For the whole process: by default cuBLAS may add parts of a 16-bit product in 16 bits."""
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_tf32 = False
