from __future__ import annotations

import numpy as np
import pytest
import torch

from services.worker.tools.prepare.weight_scale import best_weight_scale


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def output_error(weight: np.ndarray, inputs: np.ndarray, scale: np.float32) -> float:
    """With torch's own rounding."""
    scaled = torch.from_numpy(weight / scale)
    rounded = scaled.to(torch.float8_e4m3fn).float() * float(scale)
    outputs = torch.from_numpy(inputs) @ (rounded - torch.from_numpy(weight)).T
    return float(outputs.square().sum())


def test_no_scale_of_a_factor_of_2_changes_the_outputs_much_less(rng: np.random.Generator) -> None:
    weight = rng.normal(size=(24, 64)).astype(np.float32)
    inputs = rng.normal(size=(40, 64)).astype(np.float32)
    inputs[:, 5] *= 1000  # one input decides
    least = np.float32(np.abs(weight).max() / 448)
    tried = [output_error(weight, inputs, least * np.float32(2 ** (n / 8))) for n in range(8)]
    found = best_weight_scale(weight, inputs)
    assert least <= found < 2 * least
    assert output_error(weight, inputs, found) == pytest.approx(min(tried), rel=1e-3)
    assert min(tried) < 0.7 * tried[0]


def test_what_e4m3_holds_exactly_keeps_its_scale(rng: np.random.Generator) -> None:
    codes = torch.from_numpy(rng.normal(size=(8, 16)).astype(np.float32) * 50)
    weight = codes.to(torch.float8_e4m3fn).float()
    weight[0, 0] = 448
    scale = best_weight_scale(weight.numpy() * np.float32(0.25), np.eye(16, dtype=np.float32))
    assert scale == np.float32(0.25)
