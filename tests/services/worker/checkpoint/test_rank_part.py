"""What a rank holds of a matrix: the ranks' parts make the whole, heads stay together."""

from __future__ import annotations

import pytest
import torch

from services.worker.checkpoint.rank_part import rank_part
from services.worker.placement import Placement

MATRIX = torch.arange(12 * 8).view(12, 8)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize(("placement", "dim"), [("column", 0), ("row", 1)])
def test_the_parts_make_the_whole(placement: Placement, dim: int, size: int) -> None:
    parts = [rank_part(MATRIX, placement, rank=rank, size=size) for rank in range(size)]
    assert torch.equal(torch.cat(parts, dim), MATRIX)


def test_units_stay_together_and_the_first_ranks_take_one_more() -> None:
    parts = [rank_part(MATRIX, "column", rank=rank, size=2, unit=4) for rank in range(2)]
    assert [part.shape[0] for part in parts] == [8, 4]


def test_whole_matrices_are_on_every_rank() -> None:
    assert all(rank_part(MATRIX, "whole", rank=rank, size=2) is MATRIX for rank in range(2))
