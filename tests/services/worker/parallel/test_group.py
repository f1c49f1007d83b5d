"""A group of one."""

from __future__ import annotations

import pytest
import torch

from octavo.errors import UnimplementedError
from services.worker.parallel.group import Group


def test_a_group_of_one_changes_nothing() -> None:
    x = torch.arange(6.0).view(2, 3)
    assert Group().all_reduce(x) is x
    assert Group().all_gather(x) is x


def test_a_larger_group_is_refused_by_name() -> None:
    with pytest.raises(UnimplementedError, match="num_devices is 2; it must be 1"):
        Group(rank=1, size=2)
