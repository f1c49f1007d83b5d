"""An element's bits do not depend on its place, its tensor's size or the number of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F

from services.worker.kernels.elementwise import exp2_, silu_


@pytest.fixture(params=[1, 2, 3])
def _num_threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_num_threads")
@pytest.mark.parametrize("function", [exp2_, silu_])
def test_an_element_has_the_same_bits_anywhere(
    function: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    x = torch.randn(200_003, generator=torch.Generator().manual_seed(0)) * 4
    expected = function(x.clone())
    for start, stop in [(0, 1), (1, 2), (5, 38), (17, 65_600), (3, 100_000), (1, 200_003)]:
        assert torch.equal(function(x[start:stop].clone()), expected[start:stop])


def test_the_values_are_right() -> None:
    x = torch.linspace(-90, 60, 1001)
    torch.testing.assert_close(exp2_(x.clone()).double(), torch.exp2(x.double()), rtol=3e-7, atol=0)
    torch.testing.assert_close(silu_(x.clone()).double(), F.silu(x.double()), rtol=1e-6, atol=1e-30)
    assert exp2_(torch.full((256,), -1e30)).count_nonzero() == 0
