"""Which backend runs."""

from __future__ import annotations

import pytest
import torch

from octavo.errors import InvalidArgumentError
from services.worker.cpu_library.choice import find_library
from services.worker.cpu_library.instruction_sets import INSTRUCTION_SETS
from services.worker.kernels import choose_kernels

CPU = torch.device("cpu")
BUILT = [one.name for one in INSTRUCTION_SETS if find_library(one.name) is not None]


@pytest.mark.parametrize("name", BUILT)
def test_a_named_instruction_set_runs(name: str) -> None:
    assert choose_kernels(CPU, torch.bfloat16, head_dim=64, backend=name).name == f"cpu {name}"


@pytest.mark.skipif(not BUILT, reason="no compiled kernels here")
def test_the_best_runs_by_itself() -> None:
    assert choose_kernels(CPU, torch.bfloat16, head_dim=64).name == f"cpu {BUILT[0]}"


@pytest.mark.parametrize(
    ("name", "dtype", "head_dim"),
    [("avx9", torch.bfloat16, 64), ("avx2", torch.float32, 64), ("avx2", torch.bfloat16, 8)],
)
def test_one_that_cannot_is_refused(name: str, dtype: torch.dtype, head_dim: int) -> None:
    with pytest.raises(InvalidArgumentError, match=f'kernels is "{name}"; it must be auto or ref'):
        choose_kernels(CPU, dtype, head_dim=head_dim, backend=name)
