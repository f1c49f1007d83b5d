"""Scales of an FP8 cache: all their names, and what is done without them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from structlog.testing import capture_logs

from octavo.errors import InvalidArgumentError
from services.worker.checkpoint.kv_scales import find_kv_scales
from services.worker.checkpoint.reader import CheckpointReader
from services.worker.models import load_model
from tests.services.worker import tiny_llama
from tests.services.worker.paged_sequences import PagedSequences

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["k_scale", "v_scale"], (1.0, 2.0)),
        (["k_proj.k_scale", "v_proj.v_scale"], (1.0, 2.0)),
        (["k_proj.output_scale", "v_proj.output_scale"], (1.0, 2.0)),
        (["kv_scale"], (1.0, 1.0)),
        (["k_scale"], (1.0, None)),
        ([], (None, None)),
    ],
)
def test_scales_have_many_names(
    tmp_path: Path, names: list[str], expected: tuple[float | None, float | None]
) -> None:
    tensors = {f"a.{name}": torch.tensor([n + 1.0]) for n, name in enumerate(names)}
    save_file(tensors | {"other": torch.ones(1)}, tmp_path / "model.safetensors")
    scales = find_kv_scales(CheckpointReader(tmp_path), "a")
    assert (scales.key, scales.value) == expected
    assert scales.tensors == tensors.keys()


def test_a_wrong_scale_is_named(tmp_path: Path) -> None:
    save_file({"a.v_scale": torch.tensor(0.0)}, tmp_path / "model.safetensors")
    with pytest.raises(InvalidArgumentError, match=r"'a\.v_scale' holds a scale that is not"):
        find_kv_scales(CheckpointReader(tmp_path), "a")


def test_without_scales_an_fp8_cache_says_so_once(tmp_path: Path) -> None:
    folder = tiny_llama.write(tmp_path)
    with capture_logs() as logs:
        load_model(folder, device=CPU, dtype=None, backend="reference")
        model = load_model(folder, device=CPU, dtype=None, fp8_kv_cache=True, backend="reference")
    (line,) = logs
    assert "1.0 is used" in line["event"]
    assert (line["log_level"], line["layers"]) == ("warning", 2)
    plain = load_model(folder, device=CPU, dtype=None)
    assert 2 * model.kv_bytes_per_block(16) == plain.kv_bytes_per_block(16)


def test_an_fp8_cache_changes_answers_by_its_rounding_alone(checkpoints: Path) -> None:
    logits = [
        PagedSequences(
            load_model(
                checkpoints / "ct-kv", device=CPU, dtype=torch.float32, fp8_kv_cache=fp8_kv_cache
            )
        ).greedy(list(range(40)), 1)[0]
        for fp8_kv_cache in (False, True)
    ]
    assert 1e-3 < (logits[0] - logits[1]).std() / logits[0].std() < 0.2
