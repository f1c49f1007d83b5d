"""The tests of this folder over kernels that check every access to memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from services.worker.cpu_library.compilation import build, find_compiler
from services.worker.cpu_library.instruction_sets import supported
from tests.services.worker.kernels.cpu.sanitised import PRELOADED, preloading, sanitised

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(PRELOADED, reason="this process is the one that checks"),
]

_OVERREAD = """
import torch
from services.worker.kernels.cpu.library import Library
library = Library({path!r}, "")
x, weight, out = torch.ones(1, 99), torch.ones(100), torch.empty(1, 100, dtype=torch.bfloat16)
team = library.team_create(1, None, 0)
library.rms_norm(team, x.data_ptr(), weight.data_ptr(), 1e-5, 1, 100, out.data_ptr())
"""


@pytest.fixture(scope="module")
def libraries() -> list[Path]:
    compiler = find_compiler()
    if compiler is None:
        pytest.skip("no C++ compiler")
    if not supported():
        pytest.skip("no kernels for this CPU")
    if preloading(compiler) is None:
        pytest.skip(f"{compiler} has no address sanitizer")
    return [build(sanitised(one), compiler) for one in supported()]


def run_preloaded(*arguments: str) -> subprocess.CompletedProcess[str]:
    compiler = find_compiler()
    assert compiler is not None
    return subprocess.run(
        [sys.executable, *arguments],
        env=preloading(compiler),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_no_access_is_beyond_a_buffer(libraries: list[Path]) -> None:
    # Comparing bits takes half the time, and reads nothing that the others do not.
    chosen = ("-m", "not slow", "-k", "not bits_depend", str(Path(__file__).parent))
    # What the sanitizer says last goes past Python: pytest must leave that stream alone.
    plain = ("-q", "-p", "no:cacheprovider", "--capture=sys")
    result = run_preloaded("-m", "pytest", *plain, *chosen)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[:6000]


def test_one_that_is_beyond_is_seen(libraries: list[Path]) -> None:
    result = run_preloaded("-c", _OVERREAD.format(path=str(libraries[0])))
    assert result.returncode != 0
    assert "heap-buffer-overflow" in result.stderr
