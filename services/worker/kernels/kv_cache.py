"""The paged memory of keys and values, and how one step's attention is laid over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerCache:
    """Keys and values of one layer, each [KV heads, blocks, block_tokens, head_dim].

    Stored in float8_e4m3fn, a key is its code times key_scale, a value its code times value_scale.
    """

    keys: torch.Tensor
    values: torch.Tensor
    key_scale: float = 1.0
    value_scale: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class KVCache:
    """Keys and values of every layer, in blocks of `block_tokens` tokens.

    storage: [layers, 2 (keys, values), KV heads, blocks, block_tokens, head_dim], in the dtype of
    the activations or float8_e4m3fn. A head's block is one contiguous piece, so that gathering
    blocks gives matrices ready to multiply.
    """

    storage: torch.Tensor

    @property
    def num_kv_heads(self) -> int:
        """KV heads that this rank holds."""
        return self.storage.shape[2]

    @property
    def num_blocks(self) -> int:
        """Blocks that the allocator deals out."""
        return self.storage.shape[3]

    @property
    def block_tokens(self) -> int:
        """Tokens of one block."""
        return self.storage.shape[4]

    @property
    def head_dim(self) -> int:
        """Elements of one head's key or value."""
        return self.storage.shape[5]

    def layer(self, index: int, scales: tuple[float, float] = (1.0, 1.0)) -> LayerCache:
        """One layer's part; the scales of keys and values matter where it is stored in FP8."""
        keys, values = self.storage[index]
        return LayerCache(keys=keys, values=values, key_scale=scales[0], value_scale=scales[1])

    def copy_blocks(self, sources: Sequence[int], destinations: Sequence[int]) -> None:
        """Copies whole blocks of every layer; all sources are read before a block is written."""
        device = self.storage.device
        read = self.storage[:, :, :, torch.tensor(sources, device=device)]
        self.storage[:, :, :, torch.tensor(destinations, device=device)] = read
