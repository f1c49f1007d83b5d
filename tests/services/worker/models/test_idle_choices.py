"""A flag that a checkpoint leaves without effect is said once, and the model is the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from structlog.testing import capture_logs

from services.worker.models import load_model
from tests.services.worker import tiny_llama

CPU = torch.device("cpu")
WEIGHTS = "quantization to FP8 changes nothing: no matrix of the layers is in 16 bits"
ACTIVATIONS = "activations in FP8 change nothing: no matrix declares how its inputs are rounded"


def warnings(folder: Path, *, weights: bool, activations: bool) -> list[str]:
    with capture_logs() as lines:
        load_model(
            folder,
            device=CPU,
            dtype=None,
            fp8_weights=weights,
            fp8_activations=activations,
            backend="reference",
        )
    return [line["event"] for line in lines if line["log_level"] == "warning"]


@pytest.mark.parametrize(
    ("name", "weights", "activations", "expected"),
    [
        ("fmo-l0", True, False, [WEIGHTS]),
        ("fmo-l0", False, True, []),
        ("modelopt-pb", False, True, [ACTIVATIONS]),
        ("modelopt-pb", True, True, [WEIGHTS, ACTIVATIONS]),
        ("modelopt-pb", False, False, []),
    ],
)
def test_of_fp8_checkpoints(
    checkpoints: Path, name: str, expected: list[str], *, weights: bool, activations: bool
) -> None:
    assert warnings(checkpoints / name, weights=weights, activations=activations) == expected


def test_of_a_16_bit_checkpoint(tmp_path: Path) -> None:
    folder = tiny_llama.write(tmp_path)
    assert warnings(folder, weights=False, activations=True) == [ACTIVATIONS]
    assert warnings(folder, weights=True, activations=False) == []
    assert warnings(folder, weights=True, activations=True) == []
