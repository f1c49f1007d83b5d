"""The token of greedy decoding, in all backends alike."""

from __future__ import annotations

import pytest
import torch

from services.worker.kernels.reference import ReferenceKernels

REFERENCE = ReferenceKernels(torch.device("cpu"), torch.float32)


def logits(rows: int, width: int) -> torch.Tensor:
    """Rounded, so that the largest is often there several times."""
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(width)).round(
        decimals=1
    )


@pytest.mark.parametrize("width", [1, 15, 16, 17, 1000, 1024, 1025, 5000])
def test_the_lowest_of_the_largest(width: int) -> None:
    values = logits(5, width) - 10  # all below 0: what pads a row must not win
    wanted = [row.index(max(row)) for row in values.tolist()]
    assert REFERENCE.argmax(values).tolist() == wanted


@pytest.mark.parametrize("spoiled", [float("nan"), float("inf"), float("-inf")])
def test_a_row_that_is_not_finite(spoiled: float) -> None:
    values = logits(3, 2000)
    values[1, 1999] = spoiled
    assert REFERENCE.argmax(values)[1] == -1
    assert (REFERENCE.argmax(values)[[0, 2]] >= 0).all()


def test_a_sum_that_overflows_is_finite() -> None:
    values = torch.full((1, 40), 3e38)
    values[0, 39] = 3.2e38
    assert REFERENCE.argmax(values).tolist() == [39]
