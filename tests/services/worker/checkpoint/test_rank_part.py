"""What a rank holds of a matrix: the ranks' parts make the whole, heads stay together."""

from __future__ import annotations

import pytest
import torch

from services.worker.checkpoint.rank_part import RankPart, rank_part
from services.worker.placement import Placement

MATRIX = torch.arange(12 * 8).view(12, 8)


def part_of(part: RankPart) -> torch.Tensor:
    return MATRIX[part.rows.start : part.rows.stop, part.columns.start : part.columns.stop]


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize(("placement", "dim"), [("column", 0), ("row", 1)])
def test_the_parts_make_the_whole(placement: Placement, dim: int, size: int) -> None:
    parts = [rank_part((12, 8), placement, rank=rank, size=size) for rank in range(size)]
    assert torch.equal(torch.cat([part_of(part) for part in parts], dim), MATRIX)


def test_units_stay_together_and_the_first_ranks_take_one_more() -> None:
    parts = [rank_part((12, 8), "column", rank=rank, size=2, unit=4) for rank in range(2)]
    assert [part.shape for part in parts] == [(8, 8), (4, 8)]


def test_whole_matrices_are_on_every_rank() -> None:
    parts = [rank_part((12, 8), "whole", rank=rank, size=2) for rank in range(2)]
    assert all(part.shape == (12, 8) for part in parts)
