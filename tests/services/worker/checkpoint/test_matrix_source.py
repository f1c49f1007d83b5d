"""What one matrix's tensors mean, and what cannot be right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from octavo.errors import InvalidArgumentError
from services.worker.checkpoint.dialects import choose_dialect
from services.worker.checkpoint.part_reader import read_matrix
from services.worker.checkpoint.reader import CheckpointReader
from services.worker.fp8_matrix import Fp8Matrix
from services.worker.input_scheme import InputScheme

# All codes of e4m3fn but the two NaNs, [2, 127].
CODES = torch.cat((torch.arange(0x7F), torch.arange(0x80, 0xFF))).view(2, 127).to(torch.uint8)
FP8 = CODES.view(torch.float8_e4m3fn)
BLOCKS = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}
FRIENDLI = {"use_fp8_e4m3": True}
DYNAMIC = {"quant_method": "fp8", "activation_scheme": "dynamic"}
STATIC = {"quant_method": "fp8", "activation_scheme": "static"}
OLD_STATIC = {"quant_method": "fp8", "scheme": "static"}


def read(
    folder: Path, quantization: dict[str, Any], **tensors: torch.Tensor
) -> torch.Tensor | Fp8Matrix:
    """The matrix "m" of a checkpoint with these tensors."""
    named = {f"m.{name}": tensor.contiguous() for name, tensor in tensors.items()}
    save_file(named, folder / "model.safetensors")
    return read_matrix(CheckpointReader(folder), choose_dialect(quantization), "m")


def exact_value(code: int) -> float:
    """E4M3fn by its definition: 1 sign bit, 4 of exponent with bias 7, 3 of fraction."""
    exponent, fraction = (code >> 3) & 15, code & 7
    size = fraction * 2.0**-9 if exponent == 0 else (1 + fraction / 8) * 2.0 ** (exponent - 7)
    return -size if code & 0x80 else size


@pytest.mark.parametrize("stored_as", [torch.int8, torch.float8_e4m3fn])
def test_every_code_has_the_value_of_its_definition(tmp_path: Path, stored_as: torch.dtype) -> None:
    weight = read(
        tmp_path, FRIENDLI, weight=CODES.view(stored_as), weight_scale=torch.tensor(0.125)
    )
    assert isinstance(weight, Fp8Matrix)
    expected = [[0.125 * exact_value(code) for code in row] for row in CODES.tolist()]
    assert torch.equal(weight.expand(torch.float32), torch.tensor(expected))


def test_the_dequantised_weight_is_rounded_once(tmp_path: Path) -> None:
    scale = torch.tensor(0.0123)
    weight = read(tmp_path, DYNAMIC, weight=FP8, weight_scale=scale)
    assert isinstance(weight, Fp8Matrix)
    exact = FP8.double() * scale.double()
    assert torch.equal(weight.expand(torch.bfloat16), exact.float().bfloat16())


@pytest.mark.parametrize("shape", [(2,), (2, 1)])
def test_scales_of_rows_are_taken_in_either_shape(tmp_path: Path, shape: tuple[int, ...]) -> None:
    scale = torch.tensor([0.5, 3.0]).view(shape).half()
    weight = read(tmp_path, DYNAMIC, weight=FP8, weight_scale=scale)
    assert isinstance(weight, Fp8Matrix)
    assert weight.scale.kind == "channel"
    assert torch.equal(weight.expand(torch.float32), FP8.float() * scale.float().view(2, 1))


@pytest.mark.parametrize("dims", [2, 4])
@pytest.mark.parametrize("name", ["weight_scale", "weight_scale_inv"])
def test_blocks_may_be_short_at_the_edges(tmp_path: Path, name: str, dims: int) -> None:
    codes = FP8.repeat(70, 2)[:, :200]  # [140, 200]
    scale = torch.tensor([[0.5, 2.0], [4.0, 0.25]])
    stored = scale if dims == 2 else scale.view(2, 1, 2, 1)
    weight = read(tmp_path, BLOCKS, weight=codes, **{name: stored})
    assert isinstance(weight, Fp8Matrix)
    spread = scale.repeat_interleave(128, 0)[:140].repeat_interleave(128, 1)[:, :200]
    assert torch.equal(weight.expand(torch.float32), codes.float() * spread)
    assert weight.inputs == InputScheme(group=128)


@pytest.mark.parametrize("name", ["in_scale", "input_scale", "act_scale"])
@pytest.mark.parametrize("quantization", [FRIENDLI, STATIC, OLD_STATIC])
def test_the_scale_of_inputs_has_three_names(
    tmp_path: Path, quantization: dict[str, Any], name: str
) -> None:
    scales = {"weight_scale": torch.tensor([1.0]), name: torch.tensor(0.25)}
    weight = read(tmp_path, quantization, weight=FP8, **scales)
    assert isinstance(weight, Fp8Matrix)
    assert weight.inputs == InputScheme(static_scale=0.25)


def test_without_a_scale_inputs_are_dynamic_where_nothing_says_static(tmp_path: Path) -> None:
    for quantization in (FRIENDLI, DYNAMIC):
        weight = read(tmp_path, quantization, weight=FP8, weight_scale=torch.tensor(1.0))
        assert isinstance(weight, Fp8Matrix)
        assert weight.inputs == InputScheme()
    with pytest.raises(InvalidArgumentError, match=r"tensor 'm\.input_scale' is missing"):
        read(tmp_path, STATIC, weight=FP8, weight_scale=torch.tensor(1.0))


def test_a_16_bit_matrix_is_left_alone(tmp_path: Path) -> None:
    matrix = read(tmp_path, STATIC, weight=torch.ones(2, 2).half())
    assert isinstance(matrix, torch.Tensor)
    assert torch.equal(matrix, torch.ones(2, 2).half())


GOOD: dict[str, torch.Tensor] = {"weight": CODES.view(torch.int8), "weight_scale": torch.ones(1)}


@pytest.mark.parametrize(
    ("changes", "tensor", "reason"),
    [
        ({"weight": torch.full((2, 2), 0x7F).to(torch.int8)}, "weight", "holds a NaN"),
        ({"weight": torch.full((2, 2), -1).to(torch.int8)}, "weight", "holds a NaN"),
        ({"weight": torch.zeros(4).to(torch.int8)}, "weight", "must be [out, in]"),
        ({"weight": torch.zeros(2, 2).to(torch.uint8)}, "weight", "stored as I8 or F8_E4M3"),
        ({"weight": torch.zeros(2, 2).int()}, "weight", "stored as I8 or F8_E4M3"),
        ({"weight": torch.zeros(2, 2).to(torch.float8_e5m2)}, "weight", "stored as I8 or F8_E4M3"),
        ({"weight_scale": torch.tensor(0.0)}, "weight_scale", "not finite and above 0"),
        ({"weight_scale": torch.tensor(-1.0)}, "weight_scale", "not finite and above 0"),
        ({"weight_scale": torch.tensor(torch.inf)}, "weight_scale", "not finite and above 0"),
        ({"weight_scale": torch.tensor(torch.nan)}, "weight_scale", "not finite and above 0"),
        ({"weight_scale": torch.tensor([1.0, 0.0])}, "weight_scale", "not finite and above 0"),
        ({"weight_scale": torch.ones(2, 2)}, "weight_scale", "has the shape [2, 2]"),
        ({"weight_scale": torch.ones(0)}, "weight_scale", "has the shape [0]"),
        ({"weight_scale": torch.ones(1).int()}, "weight_scale", "a scale is F32, F16 or BF16"),
        ({"in_scale": torch.ones(2)}, "in_scale", "must be [] or [1]"),
        ({"input_scale": torch.tensor(0.0)}, "input_scale", "not finite and above 0"),
    ],
)
def test_what_cannot_be_right_is_refused_by_tensor(
    tmp_path: Path, changes: dict[str, torch.Tensor], tensor: str, reason: str
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        read(tmp_path, FRIENDLI, **(GOOD | changes))
    assert caught.value.message.startswith(f"model.safetensors: tensor 'm.{tensor}' ")
    assert reason in caught.value.message


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (1, 2), (3, 2), (140, 1, 2), (2, 2, 1)])
def test_blocks_must_cover_the_matrix(tmp_path: Path, shape: tuple[int, ...]) -> None:
    codes = FP8.repeat(70, 2)[:, :200]
    with pytest.raises(InvalidArgumentError, match=r"it must be \[2, 2\], \[\], \[1\], \[140\] or"):
        read(tmp_path, BLOCKS, weight=codes, weight_scale_inv=torch.ones(shape))


def test_a_matrix_without_its_scale_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"tensor 'm\.weight_scale' is missing"):
        read(tmp_path, FRIENDLI, weight=CODES.view(torch.int8))


def test_bytes_without_a_declared_quantisation_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"config\.json names no quantisation"):
        read(tmp_path, {}, weight=CODES.view(torch.int8))


def test_integers_of_a_dialect_that_has_them_are_not_taken_for_bits(tmp_path: Path) -> None:
    weights = {"type": "float", "num_bits": 8, "strategy": "tensor"}
    quantization = {
        "quant_method": "compressed-tensors",
        "format": "float-quantized",
        "config_groups": {"any": {"targets": ["Linear"], "weights": weights}},
    }
    with pytest.raises(InvalidArgumentError, match=r"is torch\.int8; FP8 is stored as F8_E4M3"):
        read(tmp_path, quantization, **GOOD)
