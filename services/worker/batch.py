"""The tensors of one step: built by the runner, read by models, layers and kernels."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """T tokens of S sequences, each sequence's tokens adjacent and in order.

    Sequence s owns the rows query_starts[s] to query_starts[s + 1]; its last row stands at position
    context_lengths[s] - 1. The key and value of row t are written to slot slots[t] before they are
    read: slot = block id * tokens of a block + offset in the block.
    """

    token_ids: torch.Tensor  # [T] int64
    positions: torch.Tensor  # [T] int64
    slots: torch.Tensor  # [T] int64
    query_starts: torch.Tensor  # [S + 1] int64
    context_lengths: torch.Tensor  # [S] int64, keys that each sequence has after this step
    block_tables: torch.Tensor  # [S, most blocks] int64, padded with 0
    logit_rows: torch.Tensor  # [L] int64, the rows whose logits are wanted
