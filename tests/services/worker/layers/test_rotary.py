"""The table of angles."""

from __future__ import annotations

from pathlib import Path

import torch

from services.worker.layers.rotary import RotaryTable
from services.worker.models import read_config


def test_the_angles_are_positions_times_falling_frequencies(
    checkpoints: Path, device: torch.device
) -> None:
    config = read_config(checkpoints / "fmo-l0")
    positions = torch.tensor([0, 1, 7, 511])
    cos, sin = (part.cpu() for part in RotaryTable(config, device)(positions.to(device)))
    assert cos.shape == sin.shape == (4, 1, config.head_dim)
    half = config.head_dim // 2
    frequencies = config.rope.theta ** (-torch.arange(half).double() / half)
    angles = positions.double()[:, None] * frequencies
    for table, exact in ((cos, angles.cos()), (sin[..., half:], angles.sin())):
        error = (table[:, 0, :half].double() - exact).abs().max()
        assert error < 5e-5  # float32 angles of up to 511
    assert torch.equal(sin[..., :half], -sin[..., half:])
