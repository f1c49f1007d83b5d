"""Inputs rounded to FP8: by a scale, by token, by group."""

from __future__ import annotations

import pytest
import torch

from services.worker.input_scheme import InputScheme
from services.worker.kernels.fp8_inputs import round_inputs

X = torch.randn(8, 200, generator=torch.Generator().manual_seed(0))


def nearest_codes(x: torch.Tensor) -> torch.Tensor:
    """The nearest e4m3 value of each element, found among all of them; ties to even codes."""
    codes = torch.arange(0x7F, dtype=torch.uint8)
    values = codes.view(torch.float8_e4m3fn).float()
    distance = (x.abs().clamp(max=448)[..., None] - values).abs()
    tie_break = (codes % 2).float() * 1e-12
    return x.sign() * values[(distance + tie_break).argmin(-1)]


def test_a_static_scale_saturates() -> None:
    rounded = round_inputs(X, InputScheme(static_scale=0.005))
    assert torch.equal(rounded, nearest_codes(X / 0.005) * torch.tensor(0.005))
    assert rounded.abs().max() == torch.tensor(0.005) * 448


def test_each_token_has_its_scale() -> None:
    scale = X.abs().amax(1, keepdim=True) / 448
    assert torch.equal(round_inputs(X, InputScheme()), nearest_codes(X / scale) * scale)


def test_each_group_of_channels_has_its_scale_and_the_last_may_be_short() -> None:
    rounded = round_inputs(X, InputScheme(group=128))
    parts = [round_inputs(part, InputScheme()) for part in (X[:, :128], X[:, 128:])]
    assert torch.equal(rounded, torch.cat(parts, 1))


@pytest.mark.parametrize(
    "scheme", [InputScheme(), InputScheme(group=64), InputScheme(static_scale=0.01)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_row_depends_on_itself_alone(scheme: InputScheme, dtype: torch.dtype) -> None:
    x = X.to(dtype)
    together = round_inputs(torch.cat((x, torch.zeros(1, 200, dtype=dtype), x * 1000)), scheme)
    assert together.dtype == dtype
    assert torch.equal(together[8], torch.zeros(200, dtype=dtype))
    for row in range(8):
        assert torch.equal(round_inputs(x[row : row + 1], scheme)[0], together[row])


def test_what_is_no_number_stays_in_its_row() -> None:
    x = X.clone()
    x[3, 5] = torch.nan
    for scheme in (InputScheme(), InputScheme(static_scale=0.01)):
        rounded = round_inputs(x, scheme)
        assert rounded[3].isnan().any()
        assert rounded[[0, 1, 2, 4, 5, 6, 7]].isfinite().all()
