"""Where tests compute: `pytest --device cuda -m device` runs on a GPU what can run there."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    """The device that --device names; what takes it carries the marker `device`."""
    name: str = request.config.getoption("--device")
    assert name == "cpu" or torch.cuda.is_available(), "--device is cuda, but torch finds no GPU"
    return torch.device(name)
