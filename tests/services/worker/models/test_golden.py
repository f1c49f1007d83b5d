"""Every dialect against golden results that were made elsewhere (tests/fixtures/README.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from services.worker.checkpoint.dialects import choose_dialect
from services.worker.checkpoint.part_reader import read_matrix
from services.worker.checkpoint.reader import CheckpointReader
from services.worker.fp8_matrix import Fp8Matrix
from services.worker.kernels import choose_kernels
from services.worker.models import load_model, read_config
from tests.services.worker.paged_sequences import PagedSequence, PagedSequences

CHECKPOINTS = [
    *("autofp8-dynamic", "autofp8-kv", "autofp8-old", "autofp8-static"),
    *("ct-block", "ct-dynamic", "ct-fp8", "ct-ignore", "ct-kv"),
    *("deepseek-block", "deepseek-edge"),
    *("fmo-l0", "fmo-l1", "fmo-l2"),
    *("modelopt-fp8", "modelopt-kv", "modelopt-pb", "modelopt-pcpt"),
]
ROUNDED = [
    *((name, "w8a8") for name in CHECKPOINTS if name != "modelopt-pb"),  # whose inputs stay
    *((name, "w8a8_kv8") for name in ("autofp8-kv", "autofp8-old", "ct-kv", "modelopt-kv")),
]
LOGIT_TOLERANCES = {torch.float32: 2e-4, torch.float16: 0.03, torch.bfloat16: 0.15}
LINEAR_TOLERANCES = {torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 4e-2}
ROUNDED_RMS = {torch.float32: 0.1, torch.float16: 0.3, torch.bfloat16: 0.3}


def golden(folder: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((folder / "golden.json").read_text())
    return result


def greedy_agrees(made: list[int], expected: list[int], margins: list[float], least: float) -> bool:
    """Equal up to the first margin below `least`, from where on rounding may decide."""
    sure = next((i for i, margin in enumerate(margins) if margin < least), len(margins))
    return made[:sure] == expected[:sure]


@pytest.mark.parametrize("dtype", LOGIT_TOLERANCES, ids=str)
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_weights_are_what_the_golden_results_were_made_from(
    checkpoints: Path, name: str, dtype: torch.dtype, device: torch.device
) -> None:
    sequences = PagedSequences(load_model(checkpoints / name, device=device, dtype=dtype))
    cases = [case for case in golden(checkpoints / name)["cases"] if case["mode"] == "weight_only"]
    assert len(cases) == 5
    prompts = [case["prompt"] for case in cases]
    first = sequences.step([(PagedSequence(list(ids)), len(ids)) for ids in prompts]).cpu()
    expected = torch.tensor([case["first_logits"] for case in cases])
    assert (first - expected).abs().max() < LOGIT_TOLERANCES[dtype]
    least = 0.0 if dtype == torch.float32 else 2 * LOGIT_TOLERANCES[dtype]
    made = sequences.greedy_together(prompts, len(cases[0]["greedy"]))
    for case, ids in zip(cases, made, strict=True):
        assert greedy_agrees(ids, case["greedy"], case["margins"], least)


@pytest.mark.parametrize("dtype", ROUNDED_RMS, ids=str)
@pytest.mark.parametrize(("name", "mode"), ROUNDED)
def test_rounded_inputs_and_caches_stay_within_the_noise_of_rounding(
    checkpoints: Path, name: str, mode: str, dtype: torch.dtype, device: torch.device
) -> None:
    cases = [case for case in golden(checkpoints / name)["cases"] if case["mode"] == mode]
    assert len(cases) == 5
    model = load_model(
        checkpoints / name,
        device=device,
        dtype=dtype,
        fp8_activations=True,
        fp8_kv_cache=mode == "w8a8_kv8",
    )
    work = [(PagedSequence(list(case["prompt"])), len(case["prompt"])) for case in cases]
    given = PagedSequences(model).step(work).cpu()
    expected = torch.tensor([case["first_logits"] for case in cases])
    assert (given - expected).square().mean().sqrt() < ROUNDED_RMS[dtype]


@pytest.mark.parametrize("dtype", LINEAR_TOLERANCES, ids=str)
@pytest.mark.parametrize("name", [name for name in CHECKPOINTS if not name.startswith("fmo")])
def test_single_linears_give_their_golden_results_in_both_modes(
    checkpoints: Path, name: str, dtype: torch.dtype, device: torch.device
) -> None:
    folder = checkpoints / name
    reader, dialect = CheckpointReader(folder), choose_dialect(read_config(folder).quantization)
    for linear in golden(folder)["linears"]:
        matrix = read_matrix(reader, dialect, linear["name"])
        for mode in {"weight_only", "w8a8"} & linear.keys():
            kernels = choose_kernels(device, dtype, head_dim=16, fp8_activations=mode == "w8a8")
            stored = matrix if isinstance(matrix, Fp8Matrix) else matrix.to(dtype)
            packed = kernels.pack_linear(stored.to(device))
            x = torch.tensor(linear["input"])
            padded = F.pad(x, (0, 0, 0, kernels.padded_rows(len(x)) - len(x))).to(device, dtype)
            given = kernels.linear(padded, packed)[: len(x)].float().cpu()
            expected = torch.tensor(linear[mode])
            error = (given - expected).abs().amax(1) / expected.std(1)
            assert error.max() < LINEAR_TOLERANCES[dtype], (linear["name"], mode)
