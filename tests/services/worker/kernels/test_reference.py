"""The reference operations against their definitions in float64."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
import torch

from services.worker.batch import Batch
from services.worker.kernels import KVCache, choose_kernels
from services.worker.kernels.attention_plan import KEY_TILE, Tiling, plan_attention
from services.worker.kernels.reference_attention import attend, equal_tiling

CPU = torch.device("cpu")
KERNELS = choose_kernels(CPU, torch.float32)


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_rows_are_padded_to_eights() -> None:
    assert [KERNELS.padded_rows(n) for n in (1, 8, 9, 400)] == [8, 8, 16, 400]


def test_rms_norm_is_its_formula() -> None:
    x, weight = randn(8, 48) * 10, randn(48, seed=1)
    exact = (
        x.double() / (x.double().square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight.double()
    )
    given = KERNELS.rms_norm(x, weight, 1e-5)
    torch.testing.assert_close(given, exact.float())


def test_rotary_turns_each_pair_by_its_angle() -> None:
    x, angles = randn(8, 3, 16).double(), randn(8, 1, 8, seed=1).double()
    turned = torch.view_as_complex(torch.stack((x[..., :8], x[..., 8:]), -1)) * torch.polar(
        torch.ones_like(angles), angles
    )
    cos = torch.cat((angles.cos(), angles.cos()), -1).float()
    sin = torch.cat((-angles.sin(), angles.sin()), -1).float()
    exact = torch.cat((turned.real, turned.imag), -1)
    torch.testing.assert_close(KERNELS.rotary(x.float(), cos, sin), exact.float())


def test_silu_mul_is_its_formula() -> None:
    gate, up = randn(8, 20).double(), randn(8, 20, seed=1).double()
    exact = gate / (1 + (-gate).exp()) * up
    given = KERNELS.silu_mul(torch.cat((gate, up), -1).float())
    torch.testing.assert_close(given, exact.float())


def test_embedding_takes_rows_of_the_table() -> None:
    table = randn(10, 4).bfloat16()
    assert torch.equal(KERNELS.embedding(torch.tensor([3, 0]), table), table[[3, 0]].float())


def random_batch(cache: KVCache, lengths: list[tuple[int, int]]) -> Batch:
    """A batch of (context, new tokens) per sequence, on blocks in random order."""
    blocks = list(range(cache.num_blocks))
    random.Random(0).shuffle(blocks)
    size, tables, positions, slots, starts = cache.block_tokens, [], [], [], [0]
    for context, num_new in lengths:
        table = [blocks.pop() for _ in range(math.ceil(context / size))]
        new = range(context - num_new, context)
        positions += list(new)
        slots += [table[n // size] * size + n % size for n in new]
        starts.append(len(positions))
        tables.append(table)
    most = max(map(len, tables))
    return Batch(
        token_ids=torch.zeros(len(positions), dtype=torch.int64),
        positions=torch.tensor(positions),
        slots=torch.tensor(slots),
        query_starts=torch.tensor(starts),
        context_lengths=torch.tensor([context for context, _ in lengths]),
        block_tables=torch.tensor([table + [0] * (most - len(table)) for table in tables]),
        logit_rows=torch.tensor(starts[1:]) - 1,
    )


@pytest.mark.parametrize("heads", [(1, 1), (6, 2), (9, 3), (8, 1), (4, 4)])
@pytest.mark.parametrize(
    "lengths",
    [
        [(1, 1)],
        [(700, 1), (3, 1), (256, 1), (257, 1)],
        [(300, 300)],
        [(5, 5), (520, 40), (33, 33), (1, 1), (600, 1)],
    ],
)
def test_attention_is_softmax_over_the_keys_so_far(
    heads: tuple[int, int], lengths: list[tuple[int, int]]
) -> None:
    num_heads, num_kv_heads, head_dim = *heads, 16
    cache = KVCache(storage=randn(1, 2, num_kv_heads, 200, 16, head_dim))
    batch = random_batch(cache, lengths)
    num_rows = KERNELS.padded_rows(batch.token_ids.shape[0])
    query = randn(num_rows, num_heads, head_dim, seed=1)
    plan = KERNELS.plan_attention(batch, cache, num_heads)
    given = KERNELS.attend(query, cache.layer(0), plan, 0.25).view(num_rows, num_heads, head_dim)
    for row, sequence in enumerate(
        s for s, (_, num_new) in enumerate(lengths) for _ in range(num_new)
    ):
        seen = torch.arange(int(batch.positions[row]) + 1)
        slots = batch.block_tables[sequence][seen // 16] * 16 + seen % 16
        for head in range(num_heads):
            keys, values = (
                part[head * num_kv_heads // num_heads].reshape(-1, head_dim)[slots].double()
                for part in cache.layer(0)
            )
            weights = torch.softmax(keys @ query[row, head].double() * 0.25, 0)
            torch.testing.assert_close(
                given[row, head].double(), weights @ values, rtol=1e-4, atol=1e-5
            )


def test_keys_and_values_go_to_their_slots_and_nowhere_else() -> None:
    cache = KVCache(storage=torch.zeros(2, 2, 3, 10, 4, 16))
    batch = random_batch(cache, [(6, 6), (9, 1)])
    plan = KERNELS.plan_attention(batch, cache, 3)
    key, value = randn(8, 3, 16), randn(8, 3, 16, seed=1)
    KERNELS.write_kv(key, value, cache.layer(1), plan)
    for written, rows in zip(cache.layer(1), (key, value), strict=True):
        at_slots = written.reshape(3, 40, 16)[:, batch.slots].transpose(0, 1)
        assert torch.equal(at_slots, rows[:7])
        assert written.count_nonzero() == rows[:7].count_nonzero()
    assert cache.storage[0].count_nonzero() == 0


def test_what_overflows_is_stored_finite() -> None:
    cache = KVCache(storage=torch.zeros(1, 2, 1, 2, 4, 16, dtype=torch.float16))
    plan = KERNELS.plan_attention(random_batch(cache, [(1, 1)]), cache, 1)
    rows = torch.full((8, 1, 16), 1e9)
    KERNELS.write_kv(rows, -rows, cache.layer(0), plan)
    assert cache.storage.isfinite().all()
    assert cache.storage.abs().max() == torch.finfo(torch.float16).max


def test_a_step_is_planned_in_bounded_batches_that_cover_every_row_once() -> None:
    cache = KVCache(storage=torch.zeros(1, 2, 1, 2000, 16, 16))
    batch = random_batch(cache, [(20_000, 70), (5000, 1), (300, 300), (1, 1), (257, 1)])
    plan = plan_attention(
        batch, cache, Tiling(heads_per_kv_head=3, row_multiple=4, prefill_tokens=32)
    )
    rows = torch.cat([tiles.used_rows for tiles in plan.batches])
    assert sorted(rows.tolist()) == list(range(70 + 1 + 300 + 1 + 1))
    for tiles in plan.batches:
        num_tiles = tiles.counts[0]
        assert num_tiles == 1 or sum(tiles.counts) <= 64
        assert list(tiles.counts) == sorted(tiles.counts, reverse=True)
        assert tiles.pair_blocks.numel() == sum(tiles.counts) * KEY_TILE // 16


@pytest.mark.parametrize("heads", [(1, 1), (9, 3), (9, 1)])
def test_tiles_of_one_token_give_the_bits_of_tiles_of_many(heads: tuple[int, int]) -> None:
    num_heads, num_kv_heads = heads
    cache = KVCache(storage=randn(1, 2, num_kv_heads, 200, 16, 64))
    batch = random_batch(cache, [(300, 100), (40, 40), (7, 1)])
    query = randn(144, num_heads, 64, seed=1)
    chosen = equal_tiling(num_heads // num_kv_heads, 64, device=CPU)
    single = replace(chosen, prefill_tokens=1)
    given = [
        attend(query, cache.layer(0), plan_attention(batch, cache, tiling), 0.125)
        for tiling in (chosen, single)
    ]
    assert torch.equal(given[0], given[1])
