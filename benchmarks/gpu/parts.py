"""The parts of `make gpu`, in their order. To add one: write its module, add its line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A module whose function `run(context)` returns the figures, and how long it may take.

    What `run` raises is the part's failure. Figures are plain JSON; a list of objects with equal
    keys becomes a table. `installs`: it makes the environment in which the others run.
    """

    module: str
    limit_s: float
    installs: bool = False


PARTS: Mapping[str, Part] = {
    "wheels": Part(module="benchmarks.gpu.wheels", limit_s=60, installs=True),
    "device": Part(module="benchmarks.gpu.device", limit_s=60),
    "tests": Part(module="benchmarks.gpu.device_tests", limit_s=150),
    "model": Part(module="benchmarks.gpu.model", limit_s=60),
    "engine": Part(module="benchmarks.gpu.engine", limit_s=90),
    "product": Part(module="benchmarks.gpu.product", limit_s=120),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """What every part is given."""

    device: str  # cpu or cuda
    wheels: Path  # carried wheels; may not exist
    work: Path  # what parts leave for each other, and for the next run
    shape: str  # of the model that is made on the spot

    @property
    def site(self) -> Path:
        """The environment with the carried wheels."""
        return self.work / "venv"

    @property
    def python(self) -> Path:
        """Its interpreter; exists once the part `wheels` has run with wheels."""
        return self.site / "bin" / "python"

    @property
    def model(self) -> Path:
        """The model made on the spot."""
        return self.work / f"model-{self.shape}"
