"""One matrix of a checkpoint before its weights are read: where they are, and what they mean.

Decided by the dtypes, names and shapes of the tensors that are there:

    weight [out, in]                 F32, F16, BF16: as it is; F8_E4M3, or I8 with e4m3's bits: FP8
    weight_scale, weight_scale_inv   multiplies: [] or [1]: one; [out] or [out, 1]: one per output
                                     channel; [r, c] or [r, 1, c, 1]: one per block
    input_scale, in_scale, act_scale [] or [1]: inputs are rounded by it
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from services.worker.checkpoint.dialects import Dialect
from services.worker.checkpoint.reader import CheckpointReader, TensorInfo, tensor_error
from services.worker.checkpoint.tensor_names import INPUT_SCALES, WEIGHT_SCALES
from services.worker.fp8_matrix import BlockScale
from services.worker.input_scheme import InputScheme

UNQUANTISED = (torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True, kw_only=True, slots=True)
class MatrixSource:
    """scale: None where the matrix is not quantised; `tensors` are all that belong to it."""

    weight: TensorInfo
    scale: BlockScale | None
    inputs: InputScheme | None
    tensors: tuple[str, ...]


def find_matrix(
    reader: CheckpointReader, dialect: Dialect | None, name: str, shape: tuple[int, int]
) -> MatrixSource:
    """The matrix `name` (without ".weight"), [out, in]; reads its scales alone.

    Raises InvalidArgumentError, naming file, tensor and reason, for what does not fit.
    """
    weight = reader.info(f"{name}.weight")
    if weight.shape != shape:
        raise shape_error(weight, f"{list(shape)}")
    if weight.dtype in UNQUANTISED:
        return MatrixSource(weight=weight, scale=None, inputs=None, tensors=(weight.name,))
    _check_codes(weight, dialect)
    assert dialect is not None
    scale_name = _first_stored(reader, name, WEIGHT_SCALES) or f"{name}.weight_scale"
    inputs, input_name = _find_inputs(reader, dialect, name)
    return MatrixSource(
        weight=weight,
        scale=_read_weight_scale(reader, scale_name, shape, dialect.block),
        inputs=inputs,
        tensors=(weight.name, scale_name, *([input_name] if input_name else [])),
    )


def read_scale(reader: CheckpointReader, name: str) -> torch.Tensor:
    """A tensor of scales, float32, each finite and above 0."""
    info = reader.info(name)
    if info.dtype not in UNQUANTISED:
        raise tensor_error(info.file, name, f"is {info.dtype}; a scale is F32, F16 or BF16")
    scale = reader.read(name).float()
    if not (scale.isfinite() & (scale > 0)).all():
        raise tensor_error(info.file, name, "holds a scale that is not finite and above 0")
    return scale


def read_one_scale(reader: CheckpointReader, name: str) -> float:
    """A scale for a whole tensor, [] or [1]."""
    scale = read_scale(reader, name)
    if scale.shape not in ((), (1,)):
        raise shape_error(reader.info(name), "[] or [1]")
    return float(scale)


def shape_error(info: TensorInfo, wanted: str) -> Exception:
    """The error for a tensor of another shape than config.json says."""
    return tensor_error(
        info.file, info.name, f"has the shape {list(info.shape)}; it must be {wanted}"
    )


def _check_codes(weight: TensorInfo, dialect: Dialect | None) -> None:
    if dialect is None:
        raise tensor_error(
            weight.file, weight.name, f"is {weight.dtype}, but config.json names no quantisation"
        )
    wanted = "I8 or F8_E4M3" if dialect.bits_in_int8 else "F8_E4M3"
    is_bits = weight.dtype == torch.int8 and dialect.bits_in_int8
    if weight.dtype != torch.float8_e4m3fn and not is_bits:
        raise tensor_error(
            weight.file, weight.name, f"is {weight.dtype}; FP8 is stored as {wanted}"
        )


def _find_inputs(
    reader: CheckpointReader, dialect: Dialect, name: str
) -> tuple[InputScheme | None, str | None]:
    """How inputs are rounded, and the tensor that says so."""
    rule = dialect.input_rule(name)
    if rule.stored == "absent":
        return rule.otherwise, None
    stored = _first_stored(reader, name, INPUT_SCALES)
    if stored is None and rule.stored == "optional":
        return rule.otherwise, None
    stored = stored or f"{name}.input_scale"
    return InputScheme(static_scale=read_one_scale(reader, stored)), stored


def _read_weight_scale(
    reader: CheckpointReader, name: str, shape: tuple[int, int], block: tuple[int, int] | None
) -> BlockScale:
    info, (rows, columns) = reader.info(name), shape
    grid = None
    if block is not None:
        block = min(block[0], rows), min(block[1], columns)
        grid = -(-rows // block[0]), -(-columns // block[1])
        if info.shape in (grid, (grid[0], 1, grid[1], 1)):
            values = read_scale(reader, name).view(grid)
            return BlockScale(values=values, block=block, shape=shape)
    if info.shape in ((), (1,)):
        return BlockScale(values=read_scale(reader, name).view(1, 1), block=shape, shape=shape)
    if info.shape in ((rows,), (rows, 1)):
        values = read_scale(reader, name).view(rows, 1)
        return BlockScale(values=values, block=(1, columns), shape=shape)
    wanted = f"[], [1], [{rows}] or [{rows}, 1]"
    raise shape_error(info, f"{list(grid)}, {wanted}" if grid else wanted)


def _first_stored(reader: CheckpointReader, name: str, kinds: tuple[str, ...]) -> str | None:
    names = (f"{name}.{kind}" for kind in kinds)
    return next((each for each in names if each in reader.tensors), None)
