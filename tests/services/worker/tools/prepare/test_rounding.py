from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from services.worker.tools.prepare.rounding import (
    bf16_bits,
    bf16_values,
    e4m3_bits,
    e4m3_rounded,
)


def _interesting_values() -> npt.NDArray[np.float32]:
    """Every e4m3 value, the ties between neighbours and what lies just beside them; random ones."""
    finite = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float().numpy()
    finite = np.sort(finite[np.isfinite(finite)])
    ties = (finite[:-1] + finite[1:]) / 2
    beside = [np.nextafter(ties, np.float32(side)) for side in (-1000, 1000)]
    random = np.random.default_rng(0).normal(scale=100, size=4096).astype(np.float32)
    tiny = np.array([0.0, -0.0, 2**-10, -(2**-10), 1e-30, 448.0, 464.0, 1e6, -1e6], np.float32)
    values: npt.NDArray[np.float32] = np.concatenate([finite, ties, *beside, random, tiny])
    return values.astype(np.float32)


def test_e4m3_equals_torch_and_saturates() -> None:
    values = _interesting_values()
    expected = torch.from_numpy(values).clamp(-448, 448).to(torch.float8_e4m3fn).view(torch.int8)
    assert e4m3_bits(values).dtype == np.int8
    np.testing.assert_array_equal(e4m3_bits(values), expected.numpy())


def test_bf16_equals_torch() -> None:
    values = _interesting_values()
    expected = torch.from_numpy(values).bfloat16()
    np.testing.assert_array_equal(bf16_bits(values), expected.view(torch.uint16).numpy())
    np.testing.assert_array_equal(bf16_values(bf16_bits(values)), expected.float().numpy())


def test_rounded_values_are_those_of_the_bits() -> None:
    values = _interesting_values()
    values = values[np.abs(values) <= 448]
    codes = torch.from_numpy(e4m3_bits(values)).view(torch.float8_e4m3fn)
    np.testing.assert_array_equal(e4m3_rounded(values), codes.float().numpy())
