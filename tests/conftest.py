"""What many tests start from: the tiny checkpoints, and the default model."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# As ranks do: threads that spin while they wait make tests beside other processes many times
# slower. Read when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_TESTS = Path(__file__).parent


@pytest.fixture(scope="session")
def repository() -> Path:
    """The repository's root."""
    return _TESTS.parent


@pytest.fixture(scope="session")
def checkpoints() -> Path:
    """The folder of tiny checkpoints: fmo-l0, fmo-l1, fmo-l2 and chat-l0."""
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what uses the default model, so that `-m "not real_model"` leaves it out."""
    for item in items:
        if "default_model" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.real_model)
            item.add_marker(pytest.mark.slow)
