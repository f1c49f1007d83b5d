"""The dialects of FP8: what is understood, and what is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from octavo.errors import InvalidArgumentError
from services.worker.checkpoint.fp8 import (
    Fp8Weight,
    FriendliDialect,
    NoDialect,
    choose_dialect,
)
from services.worker.checkpoint.reader import CheckpointReader

# All codes of e4m3fn but the two NaNs, [2, 127].
CODES = torch.cat((torch.arange(0x7F), torch.arange(0x80, 0xFF))).view(2, 127).to(torch.uint8)


def read(folder: Path, **tensors: torch.Tensor) -> tuple[Fp8Weight, list[str]] | None:
    """The matrix "m" of a checkpoint with these tensors."""
    named = {f"m.{name}": tensor for name, tensor in tensors.items()}
    save_file(named, folder / "model.safetensors")
    return FriendliDialect().read(CheckpointReader(folder), "m")


def exact_value(code: int) -> float:
    """E4M3fn by its definition: 1 sign bit, 4 of exponent with bias 7, 3 of fraction."""
    exponent, fraction = (code >> 3) & 15, code & 7
    size = fraction * 2.0**-9 if exponent == 0 else (1 + fraction / 8) * 2.0 ** (exponent - 7)
    return -size if code & 0x80 else size


@pytest.mark.parametrize("stored_as", [torch.int8, torch.float8_e4m3fn])
def test_every_code_has_the_value_of_its_definition(tmp_path: Path, stored_as: torch.dtype) -> None:
    result = read(
        tmp_path,
        weight=CODES.view(stored_as),
        weight_scale=torch.tensor(0.125),
        in_scale=torch.tensor(2.0),
    )
    assert result is not None
    weight, used = result
    expected = [[0.125 * exact_value(code) for code in row] for row in CODES.tolist()]
    assert torch.equal(weight.expand(torch.float32), torch.tensor(expected))
    assert weight.input_scale == torch.tensor(2.0)
    assert set(used) == {"m.weight", "m.weight_scale", "m.in_scale"}


@pytest.mark.parametrize("shape", [(2,), (2, 1)])
def test_scales_of_rows_are_taken_in_either_shape(tmp_path: Path, shape: tuple[int, ...]) -> None:
    scale = torch.tensor([0.5, 3.0]).view(shape).half()
    zeros = torch.zeros(2, 1).to(torch.float8_e4m3fn)
    result = read(tmp_path, weight=CODES.view(torch.int8), weight_scale=scale, zeros=zeros)
    assert result is not None
    weight, used = result
    values = CODES.view(torch.float8_e4m3fn).float()
    assert torch.equal(weight.expand(torch.float32), values * scale.float().view(2, 1))
    assert weight.input_scale is None
    assert set(used) == {"m.weight", "m.weight_scale", "m.zeros"}


def test_the_dequantised_weight_is_rounded_once(tmp_path: Path) -> None:
    scale = torch.tensor(0.0123)
    result = read(tmp_path, weight=CODES.view(torch.int8), weight_scale=scale)
    assert result is not None
    exact = CODES.view(torch.float8_e4m3fn).double() * scale.double()
    assert torch.equal(result[0].expand(torch.bfloat16), exact.float().bfloat16())


def test_a_16_bit_matrix_is_left_alone(tmp_path: Path) -> None:
    assert read(tmp_path, weight=torch.ones(2, 2).half()) is None


GOOD: dict[str, torch.Tensor] = {
    "weight": CODES.view(torch.int8),
    "weight_scale": torch.tensor(1.0),
}


@pytest.mark.parametrize(
    ("changes", "tensor", "reason"),
    [
        ({"weight": torch.full((2, 2), 0x7F).to(torch.int8)}, "weight", "holds a NaN"),
        ({"weight": torch.full((2, 2), -1).to(torch.int8)}, "weight", "holds a NaN"),
        ({"weight": torch.zeros(4).to(torch.int8)}, "weight", "must have two sizes"),
        ({"weight": torch.zeros(2, 2).to(torch.uint8)}, "weight", "stored as I8 or F8_E4M3"),
        ({"weight": torch.zeros(2, 2).int()}, "weight", "stored as I8 or F8_E4M3"),
        ({"weight": torch.zeros(2, 2).to(torch.float8_e5m2)}, "weight", "stored as I8 or F8_E4M3"),
        ({"weight_scale": torch.tensor(0.0)}, "weight_scale", "not finite and above 0"),
        ({"weight_scale": torch.tensor(-1.0)}, "weight_scale", "not finite and above 0"),
        ({"weight_scale": torch.tensor(torch.inf)}, "weight_scale", "not finite and above 0"),
        ({"weight_scale": torch.tensor(torch.nan)}, "weight_scale", "not finite and above 0"),
        ({"weight_scale": torch.ones(2, 2)}, "weight_scale", "has the shape [2, 2]"),
        ({"weight_scale": torch.ones(0)}, "weight_scale", "has the shape [0]"),
        ({"weight_scale": torch.ones(1).int()}, "weight_scale", "a scale is F32, F16 or BF16"),
        ({"in_scale": torch.ones(2)}, "in_scale", "must be [] or [1]"),
        ({"input_scale": torch.tensor(0.0)}, "input_scale", "not finite and above 0"),
        ({"zeros": torch.ones(2, 1).to(torch.float8_e4m3fn)}, "zeros", "not all zero"),
    ],
)
def test_what_cannot_be_right_is_refused_by_tensor(
    tmp_path: Path, changes: dict[str, torch.Tensor], tensor: str, reason: str
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        read(tmp_path, **(GOOD | changes))
    assert f"tensor 'm.{tensor}'" in caught.value.message
    assert reason in caught.value.message


def test_a_matrix_without_its_scale_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"tensor 'm\.weight_scale' is missing"):
        read(tmp_path, weight=CODES.view(torch.int8))


def test_bytes_without_a_declared_quantisation_are_refused(tmp_path: Path) -> None:
    save_file({"m.weight": CODES.view(torch.int8)}, tmp_path / "model.safetensors")
    with pytest.raises(InvalidArgumentError, match=r"config\.json names no quantisation"):
        NoDialect().read(CheckpointReader(tmp_path), "m")


@pytest.mark.parametrize(
    "quantization",
    [
        {"use_fp8_e4m3": True},
        {"quant_method": "fp8", "activation_scheme": "dynamic"},
        {"quant_method": "fp8", "activation_scheme": "static", "use_fp8_e4m3": True},
    ],
)
def test_friendlis_marks_are_known(quantization: dict[str, Any]) -> None:
    assert isinstance(choose_dialect(quantization), FriendliDialect)
    assert isinstance(choose_dialect({}), NoDialect)


@pytest.mark.parametrize(
    ("quantization", "key"),
    [
        ({"quant_method": "int8"}, "quant_method is 'int8'"),
        ({"quant_method": "int8", "use_fp8_e4m3": True}, "quant_method is 'int8'"),
        ({"quant_method": "awq", "bits": 4}, "quant_method is 'awq'"),
        ({"quant_method": "gptq", "bits": 4}, "quant_method is 'gptq'"),
        ({"quant_method": "bitsandbytes"}, "quant_method is 'bitsandbytes'"),
        ({"quant_method": "compressed-tensors"}, "quant_method is 'compressed-tensors'"),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, "quant_method is 'modelopt'"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "weight_block_size is"),
        ({"quant_method": "fp8", "kv_cache_scheme": "static"}, "kv_cache_scheme is"),
        ({"quant_method": "fp8", "fmt": "e5m2"}, "fmt is 'e5m2'"),
        ({"bits": 4}, "quant_method is None"),
    ],
)
def test_other_dialects_are_refused_by_name(quantization: dict[str, Any], key: str) -> None:
    with pytest.raises(
        InvalidArgumentError, match=r"^config\.json: quantization_config\."
    ) as caught:
        choose_dialect(quantization)
    assert key in caught.value.message
