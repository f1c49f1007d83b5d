"""Scales in blocks: parts of them, and matrices on top of each other, keep every bit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from services.worker.fp8_matrix import BlockScale, Fp8Matrix, e4m3_values, to_e4m3


def scale_of(rows: int, columns: int, block: tuple[int, int], seed: int = 0) -> BlockScale:
    grid = -(-rows // block[0]), -(-columns // block[1])
    values = torch.rand(grid, generator=torch.Generator().manual_seed(seed)) + 0.5
    block = min(block[0], rows), min(block[1], columns)
    return BlockScale(values=values, block=block, shape=(rows, columns))


def spread(scale: BlockScale) -> torch.Tensor:
    """A scale for every element, by the definition of blocks."""
    values = scale.values.repeat_interleave(scale.block[0], 0)[: scale.shape[0]]
    return values.repeat_interleave(scale.block[1], 1)[:, : scale.shape[1]]


unhurried = settings(deadline=None)  # the first call of an operation of torch may take long
sizes = st.integers(1, 40)
blocks = st.sampled_from([(16, 16), (8, 12), (1, 64), (64, 64), (5, 3)])


@unhurried
@given(sizes, sizes, blocks, st.data())
def test_a_part_has_the_scales_of_its_elements(
    rows: int, columns: int, block: tuple[int, int], data: st.DataObject
) -> None:
    scale = scale_of(rows, columns, block)
    ranges = [
        range(start := data.draw(st.integers(0, size - 1)), data.draw(st.integers(start + 1, size)))
        for size in (rows, columns)
    ]
    part = scale.part(*ranges)
    expected = spread(scale)[ranges[0].start : ranges[0].stop, ranges[1].start : ranges[1].stop]
    assert torch.equal(spread(part), expected)
    of_rows = part.of_rows(0, len(ranges[0])).expand(expected.shape)
    assert torch.equal(of_rows, expected)


@unhurried
@given(st.lists(st.tuples(sizes, blocks), min_size=1, max_size=4), sizes)
def test_matrices_on_top_of_each_other_keep_their_scales(
    parts: list[tuple[int, tuple[int, int]]], columns: int
) -> None:
    scales = [scale_of(rows, columns, block, n) for n, (rows, block) in enumerate(parts)]
    joined = BlockScale.join(scales)
    assert torch.equal(spread(joined), torch.cat([spread(scale) for scale in scales]))


def test_equal_scales_of_matrices_stay_one_and_others_become_a_vector() -> None:
    one, other = scale_of(6, 8, (64, 64)), scale_of(4, 8, (64, 64), seed=1)
    assert BlockScale.join([one, one]).kind == "tensor"
    joined = BlockScale.join([one, other])
    assert (joined.kind, joined.values.shape) == ("channel", (10, 1))
    assert BlockScale.join([scale_of(96, 96, (32, 32))] * 2).block == (32, 32)


@pytest.mark.parametrize("rows", [1, 3, 5000])
def test_expanding_multiplies_every_code_by_its_scale(rows: int) -> None:
    codes = to_e4m3(torch.randn(rows, 300, generator=torch.Generator().manual_seed(0)), 0.1)
    scale = scale_of(rows, 300, (128, 128))
    matrix = Fp8Matrix(values=codes, scale=scale, inputs=None)
    assert torch.equal(matrix.expand(torch.float32), codes.float() * spread(scale))


def test_codes_have_torchs_values() -> None:
    codes = torch.arange(256).to(torch.uint8)
    codes = codes[(codes & 0x7F) != 0x7F]
    assert torch.equal(e4m3_values(codes), codes.view(torch.float8_e4m3fn).float())


def test_rounding_saturates() -> None:
    x = torch.tensor([1e9, -1e9, 449.0, 0.0])
    assert to_e4m3(x, 1.0).float().tolist() == [448.0, -448.0, 448.0, 0.0]
