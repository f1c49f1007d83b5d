"""Tiles of rows: rows are cut as said, and a size that changes bits is found out."""

from __future__ import annotations

import pytest
import torch

from services.worker.kernels.row_tiles import equal_row_tiles, in_tiles, row_function


def test_rows_are_cut_into_the_largest_tiles_first() -> None:
    seen: list[int] = []

    def function(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.shape[0])
        return x + 1

    x = torch.arange(600.0).view(200, 3)
    assert torch.equal(in_tiles(function, x, (128, 32, 8)), x + 1)
    assert seen == [128, 32, 32, 8]


def test_a_kernel_that_looks_at_the_number_of_rows_is_found_out() -> None:
    def by_size(x: torch.Tensor) -> torch.Tensor:
        return x * (1.5 if x.shape[0] > 32 else 1.0)

    def by_place(x: torch.Tensor) -> torch.Tensor:
        return x * torch.arange(1.0, x.shape[0] + 1)[:, None]

    assert equal_row_tiles(by_size, 4, torch.float32) == (32, 16, 8)
    assert equal_row_tiles(by_place, 4, torch.float32) == (1,)
    assert equal_row_tiles(lambda x: x, 4, torch.float32) == (128, 64, 32, 16, 8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_the_product_is_right(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(50, 70, generator=generator).to(dtype)
    x = torch.randn(16, 70, generator=generator).to(dtype)
    result = row_function(weight)(x)
    assert result.dtype == dtype
    exact = x.double() @ weight.double().T
    error = (result.double() - exact).abs().max() / exact.abs().max()
    assert error < {torch.float32: 1e-6, torch.bfloat16: 4e-3, torch.float16: 5e-4}[dtype]
