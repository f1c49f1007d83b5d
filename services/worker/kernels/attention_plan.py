"""What every layer's attention of one step shares: which queries meet which keys, and where.

Queries come in tiles of one sequence: one token when it decodes, up to `prefill_tokens` of a
prompt. Keys come in tiles of KEY_TILE positions, counted from the start of the sequence. A query
tile meets each key tile from the first that its first token sees, where tokens see a window of the
latest keys only, up to its last position; each meeting is a *pair*, and all pairs of a step are one
batch of matrix products. What a pair computes depends on nothing but the pair, and a
query's pairs are added up in the order of their key tiles: so its bits are the same in any step.

Query tiles are sorted by how many key tiles they meet, most first, and pairs by their turn in that.
The pairs of one turn are then one slice, which belongs to the first tiles:

    query tile   0 1 2 3 | 0 1 | 0        counts = (4, 2, 1)
    turn         0 0 0 0 | 1 1 | 2        key tile = the query tile's first one + the turn
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from services.worker.batch import Batch
from services.worker.kernels.kv_cache import KVCache

KEY_TILE = 256  # positions; a multiple of every allowed block size
HIDDEN_SCORE = -1e30  # of a key that a query may not see; no true score comes near it
_MOST_PAIRS = 64  # of one batch of products: bounds the scratch memory of long prompts


@dataclass(frozen=True, kw_only=True, slots=True)
class Tiling:
    """The shapes of query tiles whose matrix products agree in every bit on this machine.

    A tile's rows (tokens x heads of a KV head) are padded to a multiple of `row_multiple`; a prompt
    comes in tiles of `prefill_tokens`.
    """

    heads_per_kv_head: int
    row_multiple: int
    prefill_tokens: int

    def num_rows(self, num_tokens: int) -> int:
        """R, the padded rows of a tile."""
        return -(-num_tokens * self.heads_per_kv_head // self.row_multiple) * self.row_multiple


@dataclass(frozen=True, slots=True)
class QueryTile:
    """`num_rows` rows of the step from `first_row`, of one sequence, from `first_position` on."""

    sequence: int
    first_row: int
    num_rows: int
    first_position: int
    window: int | None  # the latest keys that a token sees

    @property
    def first_key_tile(self) -> int:
        """The one of the first key that the first token sees."""
        if self.window is None:
            return 0
        return max(0, self.first_position - self.window + 1) // KEY_TILE

    @property
    def num_key_tiles(self) -> int:
        """The key tiles from there up to the last position."""
        last = (self.first_position + self.num_rows - 1) // KEY_TILE
        return last - self.first_key_tile + 1


@dataclass(frozen=True, kw_only=True, slots=True)
class TileBatch:
    """N query tiles of Q tokens, P pairs, R = Q x heads per KV head, padded."""

    tile_tokens: int  # Q
    num_rows: int  # R
    counts: tuple[int, ...]  # how many tiles have a turn 0, 1, ...; the sum is P
    token_rows: torch.Tensor  # [N x Q] rows of the step; a short tile repeats its first row
    used: torch.Tensor  # [rows] which of those are real, and
    used_rows: torch.Tensor  # [rows] the rows of the step they are
    pair_tiles: torch.Tensor  # [P] query tile of each pair
    pair_blocks: torch.Tensor  # [P x KV heads x blocks of a key tile] rows of the cache
    ceiling: torch.Tensor  # [P, 1, R or 1, KEY_TILE] float32, see _ceiling


@dataclass(frozen=True, kw_only=True, slots=True)
class AttentionPlan:
    """The attention of one step: where new keys go, and the batches of query tiles."""

    num_rows: int  # true rows; the rest is padding
    heads_per_kv_head: int
    kv_rows: torch.Tensor  # [T x KV heads] rows of a layer's cache seen as [.., head_dim]
    batches: tuple[TileBatch, ...]


def plan_attention(
    batch: Batch, cache: KVCache, tiling: Tiling, window: int | None = None
) -> AttentionPlan:
    """Lays one step's attention over the cache; with a window, a token sees so many keys."""
    heads = torch.arange(cache.num_kv_heads, device=batch.slots.device)
    num_slots = cache.num_blocks * cache.block_tokens
    tables = _tables_of_whole_key_tiles(batch.block_tables, KEY_TILE // cache.block_tokens)
    return AttentionPlan(
        num_rows=batch.token_ids.shape[0],
        heads_per_kv_head=tiling.heads_per_kv_head,
        kv_rows=(batch.slots[:, None] + heads * num_slots).flatten(),
        batches=tuple(
            _tile_batch(tiles, tokens, tables, cache, tiling)
            for tokens, tiles in _tile_groups(batch, tiling.prefill_tokens, window)
        ),
    )


def _tile_groups(
    batch: Batch, prefill_tokens: int, window: int | None
) -> Iterator[tuple[int, list[QueryTile]]]:
    """The query tiles of the step in groups of one size, each bounded in pairs."""
    by_size: dict[int, list[QueryTile]] = {}
    starts, contexts = batch.query_starts.tolist(), batch.context_lengths.tolist()
    for sequence, context in enumerate(contexts):
        start, stop = starts[sequence], starts[sequence + 1]
        size = 1 if stop - start == 1 else prefill_tokens
        for row in range(start, stop, size):
            tile = QueryTile(sequence, row, min(size, stop - row), context - stop + row, window)
            by_size.setdefault(size, []).append(tile)
    for size, tiles in by_size.items():
        tiles.sort(key=lambda tile: -tile.num_key_tiles)
        yield from ((size, group) for group in _bounded(tiles))


def _bounded(tiles: list[QueryTile]) -> Iterator[list[QueryTile]]:
    """Cuts sorted tiles into groups of at most _MOST_PAIRS pairs, or of one tile."""
    group: list[QueryTile] = []
    num_pairs = 0
    for tile in tiles:
        if group and num_pairs + tile.num_key_tiles > _MOST_PAIRS:
            yield group
            group, num_pairs = [], 0
        group.append(tile)
        num_pairs += tile.num_key_tiles
    if group:
        yield group


def _tile_batch(
    tiles: list[QueryTile],
    tokens: int,
    tables: torch.Tensor,  # [S, key tiles, blocks of a key tile]
    cache: KVCache,
    tiling: Tiling,
) -> TileBatch:
    device = tables.device
    counts, firsts = _pair_counts(tiles), [tile.first_key_tile for tile in tiles]
    pairs = [
        (index, firsts[index] + turn)
        for turn, num_tiles in enumerate(counts)
        for index in range(num_tiles)
    ]
    pair_tiles, key_tiles = torch.tensor(pairs, device=device).unbind(1)
    sequences = torch.tensor([tile.sequence for tile in tiles], device=device)
    offsets = torch.arange(tokens, device=device)
    first_rows, lengths, first_positions = torch.tensor(
        [(tile.first_row, tile.num_rows, tile.first_position) for tile in tiles], device=device
    ).unbind(1)
    real = offsets < lengths[:, None]  # [N, Q]
    token_rows = (first_rows[:, None] + offsets * real).flatten()
    used = real.flatten().nonzero().squeeze(1)
    positions = first_positions[:, None] + offsets * real  # [N, Q]
    blocks = tables[sequences[pair_tiles], key_tiles]  # [P, blocks of a key tile]
    heads = torch.arange(cache.num_kv_heads, device=device)[:, None] * cache.num_blocks
    return TileBatch(
        tile_tokens=tokens,
        num_rows=tiling.num_rows(tokens),
        counts=counts,
        token_rows=token_rows,
        used=used,
        used_rows=token_rows[used],
        pair_tiles=pair_tiles,
        pair_blocks=(blocks[:, None] + heads).flatten(),
        ceiling=_ceiling(positions[pair_tiles], key_tiles, tiling, tiles[0].window),
    )


def _pair_counts(tiles: list[QueryTile]) -> tuple[int, ...]:
    turns = [tile.num_key_tiles for tile in tiles]  # most first
    return tuple(sum(num > turn for num in turns) for turn in range(turns[0]))


def _ceiling(
    positions: torch.Tensor,  # [P, Q]
    key_tiles: torch.Tensor,  # [P]
    tiling: Tiling,
    window: int | None,
) -> torch.Tensor:
    """What a score is at most: HIDDEN_SCORE for a key after the query, or before its window, else
    infinity.

    With one token all rows of a tile see the same. The minimum of scores and ceiling is a mask, and
    some fifty times as fast as torch's masked_fill.
    """
    keys = key_tiles[:, None] * KEY_TILE + torch.arange(KEY_TILE, device=positions.device)
    hidden = keys[:, None, :] > positions[:, :, None]  # [P, Q, KEY_TILE]
    if window is not None:
        hidden |= keys[:, None, :] <= positions[:, :, None] - window
    ceiling = torch.full(hidden.shape, torch.inf, device=positions.device)
    ceiling.masked_fill_(hidden, HIDDEN_SCORE)
    if positions.shape[1] == 1:
        return ceiling[:, None]
    rows = ceiling.repeat_interleave(tiling.heads_per_kv_head, dim=1)
    missing = tiling.num_rows(positions.shape[1]) - rows.shape[1]
    return F.pad(rows, (0, 0, 0, missing))[:, None]


def _tables_of_whole_key_tiles(tables: torch.Tensor, tile_blocks: int) -> torch.Tensor:
    """[S, blocks] -> [S, key tiles, blocks of a key tile], padded with block 0, always masked."""
    missing = -tables.shape[1] % tile_blocks
    padded = F.pad(tables, (0, missing))
    return padded.view(tables.shape[0], -1, tile_blocks)
