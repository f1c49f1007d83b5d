"""The other operations: against the reference backend, and bit for bit in any company."""

from __future__ import annotations

import pytest
import torch

from services.worker.batch import Batch
from services.worker.kernels import Kernels, KVCache
from services.worker.kernels.cpu.kernels import CpuKernels
from services.worker.kernels.reference import ReferenceKernels

REFERENCE = ReferenceKernels(torch.device("cpu"), torch.float32)
BLOCK_TOKENS = 16


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("width", [576, 33, 7])
def test_rms_norm(kernels: CpuKernels, width: int) -> None:
    x, weight = randn(5, width) * 10, randn(width, seed=1)
    given = kernels.rms_norm(x, weight, 1e-5).float()
    torch.testing.assert_close(given, REFERENCE.rms_norm(x, weight, 1e-5), rtol=2**-8, atol=1e-6)
    assert torch.equal(kernels.rms_norm(x[3:4], weight, 1e-5)[0].float(), given[3])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("head_dim", [64, 48, 20])
def test_rotary(kernels: CpuKernels, dtype: torch.dtype, head_dim: int) -> None:
    heads = randn(5, 4, head_dim).to(dtype)[:, 1:]  # rows lie apart
    cos, sin = randn(5, 1, head_dim, seed=1), randn(5, 1, head_dim, seed=2)
    given = kernels.rotary(heads, cos, sin)
    torch.testing.assert_close(given, REFERENCE.rotary(heads, cos, sin))


class Sequences:
    """Keys, values and queries of sequences, their cache, and a step of their latest tokens."""

    def __init__(self, lengths: list[int], *, heads: int, kv_heads: int, head_dim: int) -> None:
        self.lengths, self.heads, self.head_dim = lengths, heads, head_dim
        self.kv_heads = kv_heads
        count = sum(lengths)
        self.queries = randn(count, heads, head_dim)
        self.keys = randn(count, kv_heads, head_dim, seed=1).bfloat16().float()
        self.values = randn(count, kv_heads, head_dim, seed=2).bfloat16()
        most = max(-(-length // BLOCK_TOKENS) for length in lengths)
        order = torch.randperm(len(lengths) * most, generator=torch.Generator().manual_seed(3))
        self.tables = order.view(len(lengths), most)

    def cache(self, dtype: torch.dtype) -> KVCache:
        shape = (1, 2, self.kv_heads, self.tables.numel(), BLOCK_TOKENS, self.head_dim)
        return KVCache(storage=torch.full(shape, float("nan"), dtype=dtype))

    def rows(self, counts: list[int]) -> torch.Tensor:
        """The places, in all tokens, of the last `counts` of each sequence."""
        ends = torch.tensor(self.lengths).cumsum(0).tolist()
        parts = [torch.arange(end - n, end) for end, n in zip(ends, counts, strict=True)]
        return torch.cat(parts)

    def batch(self, counts: list[int]) -> Batch:
        lengths = zip(self.lengths, counts, strict=True)
        positions = torch.cat([torch.arange(length - n, length) for length, n in lengths])
        sequences = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        blocks = self.tables[sequences, positions // BLOCK_TOKENS]
        starts = torch.tensor([0, *counts]).cumsum(0)
        return Batch(
            token_ids=positions,
            positions=positions,
            slots=blocks * BLOCK_TOKENS + positions % BLOCK_TOKENS,
            query_starts=starts,
            context_lengths=torch.tensor(self.lengths),
            block_tables=self.tables,
            logit_rows=starts[1:] - 1,
        )

    def filled(self, kernels: Kernels, dtype: torch.dtype) -> KVCache:
        cache = self.cache(dtype)
        plan = kernels.plan_attention(self.batch(self.lengths), cache, self.heads)
        kernels.write_kv(self.keys, self.values.to(dtype), cache.layer(0), plan)
        return cache

    def attend(
        self,
        kernels: Kernels,
        cache: KVCache,
        counts: list[int],
        window: int | None,
    ) -> torch.Tensor:
        plan = kernels.plan_attention(self.batch(counts), cache, self.heads, window)
        queries = self.queries[self.rows(counts)].bfloat16().float()
        return kernels.attend(queries, cache.layer(0), plan, self.head_dim**-0.5).float()


@pytest.mark.parametrize(
    "shape", [(9, 3, 64), (4, 4, 48), (8, 1, 128), (6, 2, 80), (2, 1, 256), (3, 1, 16)], ids=str
)
@pytest.mark.parametrize("window", [None, 1, 20, 300])
def test_attention(kernels: CpuKernels, shape: tuple[int, int, int], window: int | None) -> None:
    heads, kv_heads, head_dim = shape
    lengths, counts = [1, 16, 300, 513, 33], [1, 16, 40, 1, 2]
    sequences = Sequences(lengths, heads=heads, kv_heads=kv_heads, head_dim=head_dim)
    reference = sequences.filled(REFERENCE, torch.float32)
    # The reference gathers whole tiles, and hides what no token has written by its score alone.
    reference.storage.nan_to_num_(0.0)
    wanted = sequences.attend(REFERENCE, reference, counts, window)
    cache = sequences.filled(kernels, torch.bfloat16)
    given = sequences.attend(kernels, cache, counts, window)
    torch.testing.assert_close(given, wanted, rtol=0.02, atol=0.01)


def test_a_querys_bits_depend_on_nothing_else(kernels: CpuKernels, alone: CpuKernels) -> None:
    sequences = Sequences([300, 40, 700], heads=9, kv_heads=3, head_dim=64)
    for window in (None, 100):
        cache = sequences.filled(kernels, torch.bfloat16)
        together = sequences.attend(kernels, cache, [130, 40, 3], window)
        few = sequences.attend(alone, cache, [7, 1, 2], window)
        places = [*range(123, 130), 169, 171, 172]
        assert torch.equal(few, together[places])


def test_what_overflowed_is_stored_as_a_large_number(kernels: CpuKernels) -> None:
    sequences = Sequences([18], heads=2, kv_heads=1, head_dim=16)
    sequences.values[3] = float("inf")
    sequences.keys[4, 0, 0] = float("nan")
    cache = sequences.filled(kernels, torch.bfloat16)
    assert sequences.attend(kernels, cache, [18], None).isfinite().all()
    assert sequences.attend(kernels, cache, [18], None)[2].abs().max() < 10  # who came before it


def test_a_nan_stays_with_its_query(kernels: CpuKernels) -> None:
    sequences = Sequences([20], heads=3, kv_heads=1, head_dim=16)
    cache = sequences.filled(kernels, torch.bfloat16)
    clean = sequences.attend(kernels, cache, [20], None)
    sequences.queries[7, 1] = float("nan")
    dirty = sequences.attend(kernels, cache, [20], None)
    assert dirty[7, 16:32].isnan().all()
    dirty[7, 16:32] = clean[7, 16:32]
    assert torch.equal(dirty, clean)


@pytest.mark.parametrize("width", [1, 15, 16, 17, 1000, 1024, 1025, 5000])
def test_argmax(kernels: CpuKernels, width: int) -> None:
    logits = randn(5, width).round(decimals=1) - 10  # often the largest several times; all below 0
    assert torch.equal(kernels.argmax(logits), REFERENCE.argmax(logits))
    for spoiled in (float("nan"), float("inf"), float("-inf")):
        logits[3, width // 2] = spoiled
        assert torch.equal(kernels.argmax(logits), REFERENCE.argmax(logits))


def test_argmax_of_numbers_whose_sum_overflows(kernels: CpuKernels) -> None:
    logits = torch.full((2, 40), 3e38)
    logits[0, 39] = logits[1, 20] = 3.2e38
    assert kernels.argmax(logits).tolist() == [39, 20]
