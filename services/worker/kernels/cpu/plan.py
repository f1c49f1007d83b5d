"""What every layer's attention of one step shares."""

from __future__ import annotations

from ctypes import byref
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from services.worker.batch import Batch
from services.worker.kernels.cpu.library import LayerRows, Library, Rows, cache_of
from services.worker.kernels.kv_cache import KVCache

if TYPE_CHECKING:
    from ctypes import _Pointer


@dataclass(slots=True)
class CpuAttentionPlan:
    """The rows of a step, in memory that lives as long as the plan."""

    rows: Rows
    scratch: torch.Tensor  # float32
    kept: tuple[torch.Tensor, ...]  # what the structures point into
    layer_rows: _Pointer[LayerRows] | None = None  # of fused layers, made for the first


def plan_attention(
    library: Library, batch: Batch, cache: KVCache, num_heads: int, window: int | None
) -> CpuAttentionPlan:
    """Lays one step over the cache; with a window, a token sees so many keys."""
    positions, slots = batch.positions.contiguous(), batch.slots.contiguous()
    tables, sequences = batch.block_tables.contiguous(), _sequence_of_rows(batch)
    rows = Rows(
        positions=positions.data_ptr(),
        slots=slots.data_ptr(),
        sequences=sequences.data_ptr(),
        block_tables=tables.data_ptr(),
        table_width=tables.shape[1],
        num_rows=positions.shape[0],
        window=window or 0,
    )
    rows.tiles_each = library.most_tiles(byref(rows))
    size = library.attention_scratch(byref(cache_of(cache.layer(0))), byref(rows), num_heads)
    return CpuAttentionPlan(
        rows=rows,
        scratch=torch.empty(size, dtype=torch.float32),
        kept=(positions, slots, sequences, tables),
    )


def _sequence_of_rows(batch: Batch) -> torch.Tensor:
    """[T] int64."""
    num_sequences = batch.context_lengths.shape[0]
    each = torch.arange(num_sequences)
    if num_sequences == batch.token_ids.shape[0]:  # all decode
        return each
    return each.repeat_interleave(batch.query_starts.diff())
