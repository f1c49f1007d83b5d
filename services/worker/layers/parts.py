"""What every layer is built from."""

from __future__ import annotations

from dataclasses import dataclass

from services.worker.checkpoint.weights import Weights
from services.worker.kernels import Kernels
from services.worker.model_config import ModelConfig
from services.worker.parallel.group import Group


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """Given to a model and its layers while they are built; they keep what they need."""

    config: ModelConfig
    kernels: Kernels
    weights: Weights
    group: Group
