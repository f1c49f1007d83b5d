"""Finite or not, by bits: as torch says of every number there is."""

from __future__ import annotations

import pytest
import torch

from services.worker.checkpoint.finite import is_finite


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float16, torch.bfloat16])
def test_every_number_of_a_type(dtype: torch.dtype) -> None:
    bits = {1: torch.uint8, 2: torch.uint16}[dtype.itemsize]
    values = torch.arange(256**dtype.itemsize).to(bits).view(dtype)
    finite = values.float().isfinite()
    assert is_finite(values[finite])
    wrong = values[~finite]
    assert not any(is_finite(wrong[n : n + 1]) for n in range(0, len(wrong), 37))


def test_the_edges_of_float32() -> None:
    largest = torch.finfo(torch.float32).max
    assert is_finite(torch.tensor([largest, -largest, 0.0, -0.0]))
    for value in (torch.inf, -torch.inf, torch.nan, -torch.nan):
        assert not is_finite(torch.tensor([[1.0, value]]))


def test_no_numbers_are_finite() -> None:
    assert is_finite(torch.empty(0, 8, dtype=torch.bfloat16))
