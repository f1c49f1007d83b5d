"""What a plan says of the weights is what a loaded model holds."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from services.worker.cpu_library.choice import find_library
from services.worker.held_weights import HeldForm, NumericChoices, held_on_cpu, held_tensors
from services.worker.kernels import Backend
from services.worker.kernels.cpu.large_pages import LargePages
from services.worker.layers.rotary import RotaryTable
from services.worker.memory_plan import rank_weight_bytes
from services.worker.models import load_model, read_config
from services.worker.stored_tensors import read_stored_tensors
from tests.services.worker import llama2, tiny_llama

CPU = torch.device("cpu")
BACKENDS: list[Backend] = ["auto", "reference"]


def tensors_under(value: Any, seen: set[int]) -> Iterator[torch.Tensor]:
    """Every tensor that an object of ours reaches, once; tables of angles and memory that nobody
    has written to are no weights.
    """
    if id(value) in seen or isinstance(value, type | RotaryTable | LargePages):
        return
    seen.add(id(value))
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from tensors_under(each, seen)
    elif isinstance(value, functools.partial):
        yield from tensors_under(value.args, seen)
    elif type(value).__module__.startswith("services.worker."):
        names = [*getattr(value, "__dict__", ()), *getattr(type(value), "__slots__", ())]
        for name in names:
            yield from tensors_under(getattr(value, name), seen)


def bytes_held(model: Any) -> int:
    """Tensors may share memory; one that is laid out for oneDNN has no address, and shares none."""
    total, end = 0, 0
    tensors = list(tensors_under(model, set()))
    placed = [tensor for tensor in tensors if tensor.layout is torch.strided]
    for tensor in sorted(placed, key=lambda tensor: tensor.data_ptr()):
        start = max(end, tensor.data_ptr())
        end = max(end, tensor.data_ptr() + tensor.nbytes)
        total += end - start
    others = [tensor for tensor in tensors if tensor.layout is not torch.strided]
    return total + sum(tensor.numel() * tensor.element_size() for tensor in others)


def bytes_planned(folder: Path, choices: NumericChoices) -> int:
    config = read_config(folder)
    form = held_on_cpu(config, choices)
    return rank_weight_bytes(config, read_stored_tensors(folder), num_devices=1, form=form)


def compare(folder: Path, backend: Backend, dtype: str = "auto", *, fp8_weights: bool) -> None:
    model = load_model(
        folder,
        device=CPU,
        dtype=None if dtype == "auto" else getattr(torch, dtype),
        backend=backend,
        fp8_weights=fp8_weights,
    )
    choices = NumericChoices(dtype=dtype, kernels=backend, fp8_weights=fp8_weights)
    assert bytes_planned(folder, choices) == pytest.approx(bytes_held(model), rel=0.02)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_default_model_takes_what_was_planned(default_model: Path, backend: Backend) -> None:
    compare(default_model, backend, fp8_weights=False)


@pytest.mark.parametrize("dtype", ["auto", "float16", "float32"])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["fmo-l2", "ct-ignore", "deepseek-block"])
def test_small_models_take_what_was_planned(
    checkpoints: Path, name: str, backend: Backend, dtype: str
) -> None:
    compare(checkpoints / name, backend, dtype, fp8_weights=False)


@pytest.mark.parametrize("fp8_weights", [True, False])
@pytest.mark.parametrize("is_tied", [True, False])
@pytest.mark.parametrize("backend", BACKENDS)
def test_rounded_layers_and_tied_heads_are_planned(
    tmp_path: Path, backend: Backend, *, is_tied: bool, fp8_weights: bool
) -> None:
    sizes = {"vocab_size": 2048, "hidden_size": 256, "intermediate_size": 512}
    folder = tiny_llama.write(tmp_path, tie_word_embeddings=is_tied, **sizes)
    compare(folder, backend, fp8_weights=fp8_weights)


@pytest.mark.parametrize(
    ("choices", "is_packed"),
    [
        (NumericChoices(), True),
        (NumericChoices(kernels="reference"), False),
        (NumericChoices(dtype="float32"), False),
        (NumericChoices(fp8_kv_cache=True), False),
    ],
)
@pytest.mark.skipif(find_library() is None, reason="no compiled kernels here")
def test_the_form_is_that_of_the_backend_that_runs(
    checkpoints: Path, choices: NumericChoices, *, is_packed: bool
) -> None:
    assert held_on_cpu(read_config(checkpoints / "fmo-l2"), choices).is_packed == is_packed


def test_without_compiled_kernels_the_reference_is_planned(
    checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.worker.held_weights.find_library", lambda name: None)
    form = held_on_cpu(read_config(checkpoints / "fmo-l2"), NumericChoices())
    assert form == HeldForm(fp8=2, plain=2, table=2, is_packed=False)


def test_packing_pads_outputs_to_16_and_inputs_to_4(tmp_path: Path) -> None:
    form = HeldForm(fp8=1, plain=2, table=2, is_packed=True)
    config = read_config(tiny_llama.write(tmp_path))
    stored = llama2.declared("l.q_proj.weight", "I8", (17, 5))
    scale = llama2.declared("l.q_proj.weight_scale", "F32", (17,))
    held = [num_bytes for _, num_bytes in held_tensors(config, [stored, scale], form)]
    assert held == [32 * 8 + 4 * 32, 0]
