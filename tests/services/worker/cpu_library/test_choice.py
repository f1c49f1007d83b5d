"""Which models the compiled kernels take."""

from __future__ import annotations

import pytest

from services.worker.cpu_library.choice import can_compute


@pytest.mark.parametrize(
    ("dtype", "head_dim", "is_taken"),
    [
        ("bfloat16", 64, True),
        ("bfloat16", 256, True),
        ("bfloat16", 272, False),  # larger than what a thread keeps of a query
        ("bfloat16", 40, False),
        ("float32", 64, False),
        ("float16", 64, False),
    ],
)
def test_the_dtype_and_the_heads_decide(dtype: str, head_dim: int, is_taken: bool) -> None:
    assert can_compute(dtype, head_dim=head_dim) == is_taken
