"""16-bit weights rounded to FP8 at load."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from octavo.errors import InvalidArgumentError
from services.worker.checkpoint.quantise import quantise_rows
from services.worker.checkpoint.reader import CheckpointReader
from services.worker.checkpoint.weights import Weights
from services.worker.fp8_matrix import Fp8Matrix
from services.worker.input_scheme import InputScheme
from services.worker.models import load_model
from services.worker.placement import DECODER_PLACEMENT
from tests.services.worker import tiny_llama
from tests.services.worker.paged_sequences import PagedSequences

CPU = torch.device("cpu")


def weights_of(folder: Path, *, rank: int = 0, size: int = 1) -> Weights:
    return Weights(
        CheckpointReader(folder),
        None,
        dtype=torch.float32,
        device=CPU,
        placement=DECODER_PLACEMENT,
        rank=rank,
        size=size,
        on_progress=lambda *progress: None,
        quantise=True,
    )


def test_each_row_reaches_the_largest_code_and_zeros_stay() -> None:
    matrix = torch.randn(5, 40, generator=torch.Generator().manual_seed(0))
    matrix[2] = 0
    codes, scale = quantise_rows(matrix)
    values = codes.float()
    assert values[[0, 1, 3, 4]].abs().amax(1).tolist() == [448.0] * 4
    assert (values[2] == 0).all() and scale[2] == 1
    assert ((values * scale - matrix).abs() <= matrix.abs() / 16 + scale / 512).all()


@pytest.mark.parametrize("name", ["o_proj", "q_proj"])
def test_ranks_round_as_one_rank_does(tmp_path: Path, name: str) -> None:
    matrix = torch.randn(64, 96, generator=torch.Generator().manual_seed(1)).bfloat16()
    save_file({f"{name}.weight": matrix}, tmp_path / "model.safetensors")

    def expanded(rank: int, size: int) -> torch.Tensor:
        weights = weights_of(tmp_path, rank=rank, size=size)
        (part,) = weights.stacked([name], rows=[64], columns=96, unit=8)
        assert isinstance(part, Fp8Matrix)
        assert part.inputs == InputScheme()
        return part.expand(torch.float32)

    parts = [expanded(rank, 3) for rank in range(3)]
    assert torch.equal(torch.cat(parts, 1 if name == "o_proj" else 0), expanded(0, 1))


def test_a_value_that_is_not_finite_is_named(tmp_path: Path) -> None:
    matrix = torch.ones(8, 8)
    matrix[3, 4] = torch.inf
    save_file({"q_proj.weight": matrix}, tmp_path / "model.safetensors")
    with pytest.raises(InvalidArgumentError, match=r"'q_proj\.weight' holds a value that is not"):
        weights_of(tmp_path).stacked(["q_proj"], rows=[8], columns=8)


def test_layers_are_rounded_and_the_head_is_not(tmp_path: Path) -> None:
    folder = tiny_llama.write(tmp_path, torch_dtype="float32")
    plain, rounded, both = (
        PagedSequences(
            load_model(folder, device=CPU, dtype=None, fp8_weights=weights, fp8_activations=inputs)
        ).greedy([5, 6, 7, 8], 4)[0]
        for weights, inputs in ((False, False), (True, False), (True, True))
    )
    assert 0.01 < (plain - rounded).std() / plain.std() < 0.2
    assert 0.01 < (both - rounded).std() / plain.std() < 0.2
    weights = weights_of(folder)
    assert isinstance(weights.matrix("lm_head", rows=96, columns=48), torch.Tensor)
