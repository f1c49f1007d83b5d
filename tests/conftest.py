"""What many tests start from: the tiny checkpoints, and the default model."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Threads that spin while they wait make tests beside other processes many times slower
# (docs/decisions/0005). Read when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_TESTS = Path(__file__).parent


@pytest.fixture(scope="session")
def repository() -> Path:
    """The repository's root."""
    return _TESTS.parent


@pytest.fixture(scope="session")
def checkpoints() -> Path:
    """The folder of tiny checkpoints, one for each dialect (tests/fixtures/README.md)."""
    return _TESTS / "fixtures" / "checkpoints"


@pytest.fixture(scope="session")
def default_model(repository: Path) -> Path:
    """The prepared default model; the first time it is downloaded and converted.

    The tests that use it carry the markers `real_model` and `slow`.
    """
    prepared = subprocess.run(
        [sys.executable, "-m", "services.worker.tools.prepare", "--quiet"],
        cwd=repository,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Path(prepared.stdout.splitlines()[-1])


def pytest_addoption(parser: pytest.Parser) -> None:
    """--device: where the tests run that compute with tensors."""
    parser.addoption(
        "--device", choices=["cpu", "cuda"], default="cpu", help="for tests of the marker `device`"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks tests by what they use; on a GPU, skips what is promised on CPUs only."""
    on_cpu = config.getoption("--device") == "cpu"
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if "default_model" in fixtures:
            item.add_marker(pytest.mark.real_model)
            item.add_marker(pytest.mark.slow)
        if "device" in fixtures:
            item.add_marker(pytest.mark.device)
        promise = item.get_closest_marker("cpu_promise")
        if promise is not None and not on_cpu:
            item.add_marker(pytest.mark.skip(reason=f"{promise.args[0]} on CPUs only"))
