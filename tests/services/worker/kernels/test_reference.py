"""The reference operations against their definitions in float64."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
import torch

from services.worker.batch import Batch
from services.worker.kernels import Kernels, KVCache
from services.worker.kernels.attention_plan import KEY_TILE, Tiling, plan_attention
from services.worker.kernels.reference import ReferenceKernels
from services.worker.kernels.reference_attention import attend, equal_tiling

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def kernels(device: torch.device) -> Kernels:
    return ReferenceKernels(device, torch.float32)


def randn(*shape: int, seed: int = 0, device: torch.device = CPU) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(device)


def test_rows_are_padded_to_eights(kernels: Kernels) -> None:
    assert [kernels.padded_rows(n) for n in (1, 8, 9, 400)] == [8, 8, 16, 400]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("rows", [1, 8, 40])
@pytest.mark.parametrize("has_bias", [False, True])
def test_linear_accumulates_in_float32_and_rounds_once(
    device: torch.device, dtype: torch.dtype, rows: int, has_bias: bool
) -> None:
    kernels = ReferenceKernels(device, dtype)
    x = randn(rows, 1024, device=device).to(dtype)
    weight = randn(72, 1024, seed=1, device=device).to(dtype)
    padded = torch.nn.functional.pad(x, (0, 0, 0, kernels.padded_rows(rows) - rows))
    bias = randn(72, seed=2, device=device).to(dtype) if has_bias else None
    given = kernels.linear(padded, kernels.pack_linear(weight, bias))[:rows]
    exact = x.double() @ weight.double().T
    if bias is not None:
        exact += bias.double()
    rounding = torch.finfo(dtype).eps / 2 * exact.abs()
    summing = 2e-6 * (x.double().abs() @ weight.double().abs().T)
    assert given.dtype == dtype
    assert ((given.double() - exact).abs() <= rounding + summing).all()


def test_rms_norm_is_its_formula(kernels: Kernels, device: torch.device) -> None:
    x, weight = randn(8, 48, device=device) * 10, randn(48, seed=1, device=device)
    exact = (
        x.double() / (x.double().square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight.double()
    )
    given = kernels.rms_norm(x, weight, 1e-5)
    torch.testing.assert_close(given, exact.float())


def test_rotary_turns_each_pair_by_its_angle(kernels: Kernels, device: torch.device) -> None:
    x = randn(8, 3, 16, device=device).double()
    angles = randn(8, 1, 8, seed=1, device=device).double()
    turned = torch.view_as_complex(torch.stack((x[..., :8], x[..., 8:]), -1)) * torch.polar(
        torch.ones_like(angles), angles
    )
    cos = torch.cat((angles.cos(), angles.cos()), -1).float()
    sin = torch.cat((-angles.sin(), angles.sin()), -1).float()
    exact = torch.cat((turned.real, turned.imag), -1)
    torch.testing.assert_close(kernels.rotary(x.float(), cos, sin), exact.float())


def test_a_gated_product_is_its_formula(kernels: Kernels, device: torch.device) -> None:
    x, weight = (randn(*size, seed=size[0], device=device) for size in ((8, 40), (36, 40)))
    gate, up = (x.double() @ weight.double().T).chunk(2, -1)
    given = kernels.gated_linear(x, kernels.pack_gated(weight))
    torch.testing.assert_close(given, (gate / (1 + (-gate).exp()) * up).float())


def test_embedding_takes_rows_of_the_table(kernels: Kernels, device: torch.device) -> None:
    table = randn(10, 4, device=device).bfloat16()
    ids = torch.tensor([3, 0], device=device)
    assert torch.equal(kernels.embedding(ids, table), table[[3, 0]].float())


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
    padded = [table + [0] * (most - len(table)) for table in tables]
    on = cache.storage.device
    return Batch(
        token_ids=torch.zeros(len(positions), dtype=torch.int64, device=on),
        positions=torch.tensor(positions, device=on),
        slots=torch.tensor(slots, device=on),
        query_starts=torch.tensor(starts, device=on),
        context_lengths=torch.tensor([context for context, _ in lengths], device=on),
        block_tables=torch.tensor(padded, device=on),
        logit_rows=torch.tensor(starts[1:], device=on) - 1,
    )


@pytest.mark.parametrize("heads", [(1, 1), (9, 3), (8, 1), (4, 4)])
@pytest.mark.parametrize(
    "lengths",
    [
        [(1, 1)],
        [(700, 1), (3, 1), (256, 1), (257, 1)],
        [(300, 300)],
        [(5, 5), (520, 40), (33, 33), (1, 1), (600, 1)],
    ],
)
@pytest.mark.parametrize("window", [None, 40, 256, 300])
def test_attention_is_softmax_over_the_keys_so_far(
    kernels: Kernels,
    device: torch.device,
    heads: tuple[int, int],
    lengths: list[tuple[int, int]],
    window: int | None,
) -> None:
    num_heads, num_kv_heads, head_dim = *heads, 16
    cache = KVCache(storage=randn(1, 2, num_kv_heads, 200, 16, head_dim, device=device))
    batch = random_batch(cache, lengths)
    num_rows = kernels.padded_rows(batch.token_ids.shape[0])
    query = randn(num_rows, num_heads, head_dim, seed=1, device=device)
    plan = kernels.plan_attention(batch, cache, num_heads, window)
    given = kernels.attend(query, cache.layer(0), plan, 0.25).view(num_rows, num_heads, head_dim)
    for row, sequence in enumerate(
        s for s, (_, num_new) in enumerate(lengths) for _ in range(num_new)
    ):
        position = int(batch.positions[row])
        first = 0 if window is None else max(0, position - window + 1)
        seen = torch.arange(first, position + 1, device=device)
        slots = batch.block_tables[sequence][seen // 16] * 16 + seen % 16
        for head in range(num_heads):
            keys, values = (
                part[head * num_kv_heads // num_heads].reshape(-1, head_dim)[slots].double()
                for part in cache.storage[0]
            )
            weights = torch.softmax(keys @ query[row, head].double() * 0.25, 0)
            torch.testing.assert_close(
                given[row, head].double(), weights @ values, rtol=1e-4, atol=1e-5
            )


def test_keys_and_values_go_to_their_slots_and_nowhere_else(
    kernels: Kernels, device: torch.device
) -> None:
    cache = KVCache(storage=torch.zeros(2, 2, 3, 10, 4, 16, device=device))
    batch = random_batch(cache, [(6, 6), (9, 1)])
    plan = kernels.plan_attention(batch, cache, 3)
    key, value = (randn(8, 3, 16, seed=seed, device=device) for seed in (0, 1))
    kernels.write_kv(key, value, cache.layer(1), plan)
    for written, rows in zip(cache.storage[1], (key, value), strict=True):
        at_slots = written.reshape(3, 40, 16)[:, batch.slots].transpose(0, 1)
        assert torch.equal(at_slots, rows[:7])
        assert written.count_nonzero() == rows[:7].count_nonzero()
    assert cache.storage[0].count_nonzero() == 0


def test_what_overflows_is_stored_finite(kernels: Kernels, device: torch.device) -> None:
    cache = KVCache(storage=torch.zeros(1, 2, 1, 2, 4, 16, dtype=torch.float16, device=device))
    plan = kernels.plan_attention(random_batch(cache, [(1, 1)]), cache, 1)
    rows = torch.full((8, 1, 16), 1e9, device=device)
    kernels.write_kv(rows, -rows, cache.layer(0), plan)
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


def test_a_window_leaves_out_the_tiles_of_keys_before_it() -> None:
    cache = KVCache(storage=torch.zeros(1, 2, 1, 2000, 16, 16))
    batch = random_batch(cache, [(10_000, 1), (10_000, 32)])
    tiling = Tiling(heads_per_kv_head=1, row_multiple=4, prefill_tokens=32)
    plan = plan_attention(batch, cache, tiling, window=256)
    assert [tiles.counts for tiles in plan.batches] == [(1, 1), (1, 1, 1)]


@pytest.mark.parametrize("window", [None, 100])
@pytest.mark.parametrize("heads", [(1, 1), (9, 3), (9, 1)])
def test_tiles_of_one_token_give_the_bits_of_tiles_of_many(
    heads: tuple[int, int], window: int | None
) -> None:
    num_heads, num_kv_heads = heads
    cache = KVCache(storage=randn(1, 2, num_kv_heads, 200, 16, 64))
    batch = random_batch(cache, [(300, 100), (40, 40), (7, 1)])
    query = randn(144, num_heads, 64, seed=1)
    chosen = equal_tiling(num_heads // num_kv_heads, 64, device=CPU)
    single = replace(chosen, prefill_tokens=1)
    given = [
        attend(query, cache.layer(0), plan_attention(batch, cache, tiling, window), 0.125)
        for tiling in (chosen, single)
    ]
    assert torch.equal(given[0], given[1])
