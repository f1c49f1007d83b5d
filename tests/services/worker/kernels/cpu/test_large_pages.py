"""Memory that is dealt out: zeroed, aligned, and each part for itself."""

from __future__ import annotations

import torch

from services.worker.kernels.cpu.large_pages import LargePages, large_zeros


def test_parts_are_zero_aligned_and_apart() -> None:
    pages = LargePages()
    parts = [pages.take(size) for size in (1, 64, 100, 2 * 2**20, 70 * 2**20, 5)]
    for number, part in enumerate(parts, 1):
        assert part.data_ptr() % 64 == 0
        assert not part.any()
        part.fill_(number)
    for number, part in enumerate(parts, 1):
        assert (part == number).all()


def test_a_part_outlives_what_dealt_it_out() -> None:
    part = LargePages().take(10)
    part.fill_(7)
    assert part.tolist() == [7] * 10


def test_zeros_have_the_shape_and_dtype() -> None:
    zeros = large_zeros((3, 5), torch.bfloat16)
    assert zeros.shape == (3, 5) and zeros.dtype == torch.bfloat16
    assert not zeros.any()
    assert zeros.data_ptr() % (2 * 2**20) == 0
