"""The compiled kernels, for the machines that have some."""

from __future__ import annotations

import pytest

from services.worker.cpu_library.compilation import build, find_compiler
from services.worker.cpu_library.instruction_sets import INSTRUCTION_SETS, supported
from services.worker.kernels.cpu.kernels import CpuKernels
from services.worker.kernels.cpu.library import Library
from tests.services.worker.kernels.cpu.sanitised import PRELOADED, GuardedMemory, sanitised


@pytest.fixture(scope="session", params=INSTRUCTION_SETS, ids=lambda one: one.name)
def library(request: pytest.FixtureRequest) -> Library:
    """One for each instruction set of this machine, built where `make setup` has not."""
    compiler = find_compiler()
    if request.param not in supported() or compiler is None:
        pytest.skip("not on this CPU, or no C++ compiler")
    instruction_set = sanitised(request.param) if PRELOADED else request.param
    return Library(str(build(instruction_set, compiler)), instruction_set.name)


@pytest.fixture(scope="session")
def kernels(library: Library) -> CpuKernels:
    """With two threads, as on the smallest machine."""
    return _kernels(library, 2)


@pytest.fixture(scope="session")
def alone(library: Library) -> CpuKernels:
    """With one thread."""
    return _kernels(library, 1)


def _kernels(library: Library, num_threads: int) -> CpuKernels:
    return CpuKernels(library, num_threads, memory=GuardedMemory() if PRELOADED else None)
