"""A decoder with its paged cache: one step in, logits out. The same for every architecture."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F

from octavo.errors import invalid_field
from services.worker.batch import Batch
from services.worker.kernels import Kernels, KVCache
from services.worker.layers.attention import StepContext
from services.worker.layers.rotary import RotaryTable
from services.worker.memory_plan import kv_bytes_per_token
from services.worker.model_config import ModelConfig


class Decoder(Protocol):
    """What a model file's Decoder offers."""

    @property
    def rotary(self) -> RotaryTable:
        """The cos and sin of positions."""

    def __call__(
        self, token_ids: torch.Tensor, step: StepContext, logit_rows: torch.Tensor
    ) -> torch.Tensor:
        """The hidden states of `logit_rows`, ready for `lm_head`."""

    def lm_head(self, hidden: torch.Tensor) -> torch.Tensor:
        """The logits of hidden states."""


class PagedModel:
    """Implements `Model`: pads a step's rows as the kernels want them, and runs the decoder."""

    def __init__(
        self, config: ModelConfig, kernels: Kernels, decoder: Decoder, kv_dtype: torch.dtype
    ) -> None:
        self.config = config
        self.dtype = kernels.dtype
        self._kv_dtype = kv_dtype
        self.backend = kernels.name
        self._kernels = kernels
        self._decoder = decoder

    def kv_bytes_per_block(self, block_tokens: int) -> int:
        element_bytes = self._kv_dtype.itemsize
        per_token = kv_bytes_per_token(self.config, num_devices=1, element_bytes=element_bytes)
        return per_token * block_tokens

    def allocate_kv_cache(self, num_blocks: int, block_tokens: int) -> KVCache:
        limit = self._kernels.block_tokens_multiple
        unit = self._kernels.block_tokens_unit
        if block_tokens < 1 or limit % block_tokens or block_tokens % unit:
            multiple = "" if unit == 1 else f", and a multiple of {unit}"
            raise invalid_field("block_tokens", block_tokens, f"a divisor of {limit}{multiple}")
        config = self.config
        shape = (
            config.num_layers,
            2,
            config.num_kv_heads,
            num_blocks,
            block_tokens,
            config.head_dim,
        )
        self._decoder.rotary.cover(num_blocks * block_tokens)
        return KVCache(storage=self._kernels.zeros(shape, self._kv_dtype))

    @torch.inference_mode()
    def hidden_states(self, batch: Batch, kv_cache: KVCache) -> torch.Tensor:
        kernels, num_rows = self._kernels, batch.token_ids.shape[0]
        num_padded, num_logits = kernels.padded_rows(num_rows), batch.logit_rows.shape[0]
        cos, sin = self._decoder.rotary(_pad(batch.positions, num_padded))
        plans = {
            window: kernels.plan_attention(batch, kv_cache, self.config.num_heads, window)
            for window in set(self.config.windows)
        }
        step = StepContext(cos, sin, kv_cache, plans)
        logit_rows = _pad(batch.logit_rows, kernels.padded_rows(num_logits))
        hidden = self._decoder(_pad(batch.token_ids, num_padded), step, logit_rows)
        return hidden[:num_logits]

    @torch.inference_mode()
    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        num_rows = hidden.shape[0]
        padded = _pad(hidden, self._kernels.padded_rows(num_rows))
        return self._decoder.lm_head(padded)[:num_rows]

    @torch.inference_mode()
    def argmax(self, logits: torch.Tensor) -> torch.Tensor:
        return self._kernels.argmax(logits)

    def forward(self, batch: Batch, kv_cache: KVCache) -> torch.Tensor:
        return self.logits(self.hidden_states(batch, kv_cache))


def _pad(rows: torch.Tensor, num_rows: int) -> torch.Tensor:
    """Zeros after the last of rows [T, ...]; nothing is copied where there are enough."""
    missing = num_rows - rows.shape[0]
    return F.pad(rows, (0, 0) * (rows.dim() - 1) + (0, missing)) if missing else rows
