"""The table of angles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from services.worker.layers.rotary import RotaryTable
from services.worker.models import read_config


def test_the_angles_are_positions_times_falling_frequencies(
    checkpoints: Path, device: torch.device
) -> None:
    config = read_config(checkpoints / "fmo-l0")
    positions = torch.tensor([0, 1, 7, 511])
    rotary = RotaryTable(config, device)
    rotary.cover(512)
    cos, sin = (part.cpu() for part in rotary(positions.to(device)))
    assert cos.shape == sin.shape == (4, 1, config.head_dim)
    half = config.head_dim // 2
    frequencies = config.rope.theta ** (-torch.arange(half).double() / half)
    angles = positions.double()[:, None] * frequencies
    for table, exact in ((cos, angles.cos()), (sin[..., half:], angles.sin())):
        error = (table[:, 0, :half].double() - exact).abs().max()
        assert error < 5e-5  # float32 angles of up to 511
    assert torch.equal(sin[..., :half], -sin[..., half:])


def test_a_position_has_the_same_bits_in_a_table_of_any_length(checkpoints: Path) -> None:
    config = replace(read_config(checkpoints / "fmo-l0"), max_context=5000)
    short, long = (RotaryTable(config, torch.device("cpu")) for _ in range(2))
    short.cover(300)
    long.cover(5000)
    positions = torch.arange(300)
    for given, expected in zip(short(positions), long(positions), strict=True):
        assert torch.equal(given, expected)
    short.cover(4999)
    assert torch.equal(short(positions)[0], long(positions)[0])


def test_a_table_is_no_longer_than_the_context(checkpoints: Path) -> None:
    table = RotaryTable(read_config(checkpoints / "fmo-l0"), torch.device("cpu"))
    table.cover(2**60)
    assert table(torch.tensor([511]))[0].shape == (1, 1, 32)
    with pytest.raises(IndexError):
        table(torch.tensor([512]))
