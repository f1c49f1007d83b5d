"""Attention over paged keys and values, one path for prompts and for decoding, in plain torch.

For a query q and the keys k_j, values v_j of one key tile t, in float32:

    s_j = q . k_j * scale * log2(e)     m_t = max s_j        p_j = 2^(s_j - m_t)
    l_t = sum p_j                       o_t = sum p_j v_j

and over the tiles, in order, with m = max m_t and w_t = 2^(m_t - m):

    output = (sum w_t o_t) / (sum w_t l_t)

which is softmax(q k scale) v, split so that no sum depends on what else is in the step. A tile of
which the query sees no key (others beside it do, where there is a window) weighs exactly 0. Powers
of 2 because torch's exp takes a slow path where it underflows, which every hidden key does.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from services.worker.fp8_matrix import e4m3_values, to_e4m3
from services.worker.kernels.attention_plan import KEY_TILE, AttentionPlan, TileBatch, Tiling
from services.worker.kernels.elementwise import exp2_
from services.worker.kernels.kv_cache import LayerCache

_PREFILL_TOKENS = 32  # of a query tile: enough rows to keep the cores busy, few to waste
_LARGEST_STORED = 1e15  # what infinity is stored as, where the dtype holds it


def write_kv(
    key: torch.Tensor,  # [T, KV heads, head_dim]
    value: torch.Tensor,
    layer: LayerCache,
    plan: AttentionPlan,
) -> None:
    """Stores the true rows; what overflowed is stored as a large number instead.

    A hidden key weighs exactly 0, but 0 x infinity would carry one request's overflow into
    another's sum.
    """
    stored = ((layer.keys, key, layer.key_scale), (layer.values, value, layer.value_scale))
    for cache, rows, scale in stored:
        head_dim = cache.shape[-1]
        flat = _as_stored(rows[: plan.num_rows], cache.dtype, scale).reshape(-1, head_dim)
        target = cache.view(-1, head_dim)
        if cache.dtype == torch.float8_e4m3fn:  # bytes, because torch does not copy FP8 by index
            target, flat = target.view(torch.uint8), flat.view(torch.uint8)
        target.index_copy_(0, plan.kv_rows, flat)


def _as_stored(rows: torch.Tensor, dtype: torch.dtype, scale: float) -> torch.Tensor:
    """A copy in the cache's dtype, NaN as 0 and infinity as a large number."""
    if dtype == torch.float8_e4m3fn:
        rows = rows.float().nan_to_num(0.0)
        return to_e4m3(rows, rows.new_tensor(scale))
    largest = min(_LARGEST_STORED, torch.finfo(dtype).max)
    return rows.to(dtype, copy=True).nan_to_num_(0.0, posinf=largest, neginf=-largest)


def attend(
    query: torch.Tensor,  # [T, heads, head_dim]
    layer: LayerCache,
    plan: AttentionPlan,
    scale: float,
) -> torch.Tensor:
    """Causal grouped attention; float32 [T, heads * head_dim], padding rows 0."""
    query = query.float() * (scale * math.log2(math.e))
    result = query.new_zeros(query.shape[0], query.shape[1] * query.shape[2])
    for tiles in plan.batches:
        rows = _attend_tiles(query, layer, tiles, plan.heads_per_kv_head)
        result.index_copy_(0, tiles.used_rows, rows.index_select(0, tiles.used))
    return result


def _attend_tiles(
    query: torch.Tensor,
    layer: LayerCache,
    tiles: TileBatch,
    heads_per_kv_head: int,
) -> torch.Tensor:
    """The outputs of all query tiles, [N x Q, heads * head_dim]."""
    queries = _tile_queries(query, tiles, heads_per_kv_head)  # [N, KV heads, R, head_dim]
    _, num_kv_heads, num_rows, head_dim = queries.shape
    pair_queries = queries.index_select(0, tiles.pair_tiles)
    keys = _gather(layer.keys, tiles.pair_blocks, layer.key_scale)
    values = _gather(layer.values, tiles.pair_blocks, layer.value_scale)
    scores = torch.bmm(pair_queries.view(-1, num_rows, head_dim), keys.transpose(1, 2))
    scores = scores.view(-1, num_kv_heads, num_rows, KEY_TILE)
    torch.minimum(scores, tiles.ceiling, out=scores)
    peaks = scores.amax(-1, keepdim=True)
    weights = exp2_(scores.sub_(peaks))
    sums = weights.sum(-1, keepdim=True)
    outputs = torch.bmm(weights.view(-1, num_rows, KEY_TILE), values)
    outputs = outputs.view(-1, num_kv_heads, num_rows, head_dim)
    merged = _merge_key_tiles(peaks, sums, outputs, tiles.counts)
    return _tile_rows(merged, tiles, heads_per_kv_head)


def _tile_queries(
    query: torch.Tensor,  # [T, heads, head_dim]
    tiles: TileBatch,
    heads_per_kv_head: int,
) -> torch.Tensor:
    """[N, KV heads, R, head_dim]: the rows of a matrix are tokens x heads of one KV head."""
    head_dim, num_tokens = query.shape[2], tiles.tile_tokens
    rows = query.index_select(0, tiles.token_rows)
    rows = rows.view(
        -1, num_tokens, query.shape[1] // heads_per_kv_head, heads_per_kv_head, head_dim
    )
    rows = rows.transpose(1, 2).flatten(2, 3)  # [N, KV heads, Q x heads of a KV head, head_dim]
    return F.pad(rows, (0, 0, 0, tiles.num_rows - rows.shape[2]))


def _tile_rows(outputs: torch.Tensor, tiles: TileBatch, heads_per_kv_head: int) -> torch.Tensor:
    """The inverse: [N, KV heads, R, head_dim] -> [N x Q, heads * head_dim]."""
    num_tiles, num_kv_heads, _, head_dim = outputs.shape
    num_tokens = tiles.tile_tokens
    rows = outputs[:, :, : num_tokens * heads_per_kv_head]
    rows = rows.view(num_tiles, num_kv_heads, num_tokens, heads_per_kv_head, head_dim)
    return rows.transpose(1, 2).reshape(num_tiles * num_tokens, -1)


def _gather(cache: torch.Tensor, blocks: torch.Tensor, scale: float) -> torch.Tensor:
    """The key tiles of a layer's keys or values: [P x KV heads, KEY_TILE, head_dim] float32."""
    heads_and_blocks = cache.view(cache.shape[0] * cache.shape[1], -1)
    gathered = heads_and_blocks.index_select(0, blocks)
    if cache.dtype == torch.float8_e4m3fn:
        gathered = e4m3_values(gathered).mul_(scale)
    return gathered.float().view(-1, KEY_TILE, cache.shape[-1])


def _merge_key_tiles(
    peaks: torch.Tensor,  # [P, KV heads, R, 1], as the sums
    sums: torch.Tensor,
    outputs: torch.Tensor,  # [P, KV heads, R, head_dim]
    counts: tuple[int, ...],
) -> torch.Tensor:
    """Adds each query tile's pairs, key tile by key tile: [N, KV heads, R, head_dim]."""
    if len(counts) == 1:
        return outputs.div_(sums)
    tile_peaks, tile_sums, tile_outputs = (
        torch.split(parts, list(counts)) for parts in (peaks, sums, outputs)
    )
    peak = tile_peaks[0].clone()
    for count, peaks_here in zip(counts, tile_peaks, strict=True):
        torch.maximum(peak[:count], peaks_here, out=peak[:count])
    scales = [exp2_(here - peak[: here.shape[0]]) for here in tile_peaks]
    total, merged = tile_sums[0] * scales[0], tile_outputs[0] * scales[0]
    for index in range(1, len(counts)):
        count = counts[index]
        total[:count] += tile_sums[index] * scales[index]
        merged[:count] += tile_outputs[index] * scales[index]
    return merged.div_(total)


def equal_tiling(heads_per_kv_head: int, head_dim: int, *, device: torch.device) -> Tiling:
    """The tiles of queries in which decoding and prompts give the same bits on this machine.

    The library chooses its matrix kernel by the number of rows, so this compares the products of a
    decoding tile with those of a prompt's tile, for the least padding first. Where none agree, a
    prompt goes token by token, in the tiles of decoding.
    """
    for row_multiple in (4, 8):
        tiling = Tiling(
            heads_per_kv_head=heads_per_kv_head,
            row_multiple=row_multiple,
            prefill_tokens=_PREFILL_TOKENS,
        )
        if device.type != "cpu" or _products_agree(tiling, head_dim):
            return tiling
    return Tiling(heads_per_kv_head=heads_per_kv_head, row_multiple=8, prefill_tokens=1)


def _products_agree(tiling: Tiling, head_dim: int) -> bool:
    """Whether rows have the same bits in tiles and batches of either size."""
    generator = torch.Generator().manual_seed(0)
    few = tiling.num_rows(1)
    many = -(-tiling.num_rows(tiling.prefill_tokens) // few) * few
    query = torch.randn(5, many, head_dim, generator=generator)
    keys = torch.randn(5, KEY_TILE, head_dim, generator=generator)
    weights = torch.rand(5, many, KEY_TILE, generator=generator)
    for left, right in ((query, keys.transpose(1, 2)), (weights, keys)):
        together = torch.bmm(left, right)
        by_tile = [torch.bmm(part, right) for part in torch.split(left, few, dim=1)]
        by_pair = [torch.bmm(left[i : i + 1], right[i : i + 1]) for i in range(len(left))]
        if not torch.equal(torch.cat(by_tile, 1), together):
            return False
        if not torch.equal(torch.cat(by_pair), together):
            return False
    return True
