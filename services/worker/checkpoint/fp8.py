"""FP8 weights: which dialect a checkpoint speaks, and what its tensors mean.

A dialect is decided by config.json first (`choose_dialect` refuses by name what is not supported),
then for each matrix by its tensors, because quant_method "fp8" alone names two layouts:

    dialect    weight [out, in]          its scale                  its inputs' scale
    friendli   I8 holding e4m3 bits,     weight_scale: one, or      in_scale or input_scale, or
               or F8_E4M3                [out, 1] per row           none: dynamic
    none       F32, F16 or BF16          -                          -

Scales multiply: weight = e4m3(bits) * scale. To add a dialect, write a `Dialect` and name it in
`choose_dialect`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from services.worker.checkpoint.reader import CheckpointReader, tensor_error
from services.worker.model_config import checkpoint_error

UNQUANTISED = (torch.float32, torch.float16, torch.bfloat16)
_NAN_BITS = 0x7F  # e4m3fn has one NaN, with either sign, and no infinity


@dataclass(frozen=True, kw_only=True, slots=True)
class Fp8Weight:
    """A matrix as stored: values [out, in] float8_e4m3fn; scale [] or [out, 1] float32.

    input_scale: [] float32, or None where inputs are scaled when they are seen (dynamic).
    """

    values: torch.Tensor
    scale: torch.Tensor
    input_scale: torch.Tensor | None

    def expand(self, dtype: torch.dtype) -> torch.Tensor:
        """values * scale, computed in float32 and rounded once: [out, in] in `dtype`."""
        return (self.values.float() * self.scale).to(dtype)


class Dialect(Protocol):
    """How one family of checkpoints writes its matrices."""

    def read(self, reader: CheckpointReader, name: str) -> tuple[Fp8Weight, list[str]] | None:
        """The matrix `name` (without ".weight") and the tensors used; None: not quantised."""


class FriendliDialect:
    """Written by Friendli's optimizer, all its pedantic levels; the plain layout of AutoFP8 too."""

    def read(self, reader: CheckpointReader, name: str) -> tuple[Fp8Weight, list[str]] | None:
        if reader.info(f"{name}.weight").dtype in UNQUANTISED:
            return None
        input_scale = _first_present(reader, f"{name}.in_scale", f"{name}.input_scale")
        zeros = _first_present(reader, f"{name}.zeros")
        scale = f"{name}.weight_scale"
        weight = Fp8Weight(
            values=_read_values(reader, f"{name}.weight"),
            scale=_read_scale(reader, scale, rows=reader.info(f"{name}.weight").shape[0]),
            input_scale=_read_scale(reader, input_scale, rows=None) if input_scale else None,
        )
        if zeros and reader.read(zeros).view(torch.uint8).any():
            raise tensor_error(reader.info(zeros).file, zeros, "is not all zero: not symmetric FP8")
        used = [f"{name}.weight", scale, input_scale, zeros]
        return weight, [tensor for tensor in used if tensor]


class NoDialect:
    """A checkpoint that is not quantised: nothing but 16-bit and 32-bit matrices."""

    def read(self, reader: CheckpointReader, name: str) -> None:
        info = reader.info(f"{name}.weight")
        if info.dtype not in UNQUANTISED:
            raise tensor_error(
                info.file, info.name, f"is {info.dtype}, but config.json names no quantisation"
            )


def choose_dialect(quantization: Mapping[str, Any]) -> Dialect:
    """By config.json's quantization_config; raises InvalidArgumentError for what is not known."""
    method = str(quantization.get("quant_method", "")).lower()
    if not quantization:
        return NoDialect()
    if method not in ("", "fp8"):
        raise _unsupported("quant_method", method)
    if quantization.get("weight_block_size") is not None:
        raise _unsupported("weight_block_size", quantization["weight_block_size"])
    if quantization.get("kv_cache_scheme") is not None:
        raise _unsupported("kv_cache_scheme", quantization["kv_cache_scheme"])
    if str(quantization.get("fmt", "e4m3")) != "e4m3":
        raise _unsupported("fmt", quantization["fmt"])
    if method == "" and not quantization.get("use_fp8_e4m3"):
        raise _unsupported("quant_method", None)
    return FriendliDialect()


def _unsupported(key: str, value: object) -> Exception:
    return checkpoint_error(
        "config.json",
        f"quantization_config.{key} is {value!r:.80}; this version reads 16-bit checkpoints and"
        " FP8 in Friendli's layout (use_fp8_e4m3, or quant_method 'fp8' with one scale per matrix"
        " or per row)",
        key=f"quantization_config.{key}",
    )


def _first_present(reader: CheckpointReader, *names: str) -> str | None:
    return next((name for name in names if name in reader.tensors), None)


def _read_values(reader: CheckpointReader, name: str) -> torch.Tensor:
    info = reader.info(name)
    if info.dtype not in (torch.int8, torch.float8_e4m3fn):
        raise tensor_error(info.file, name, f"is {info.dtype}; FP8 is stored as I8 or F8_E4M3")
    if len(info.shape) != 2:
        raise tensor_error(
            info.file, name, f"has the shape {list(info.shape)}; it must have two sizes"
        )
    values = reader.read(name)
    if ((values.view(torch.uint8) & 0x7F) == _NAN_BITS).any():
        raise tensor_error(info.file, name, "holds a NaN")
    return values.view(torch.float8_e4m3fn)


def _read_scale(reader: CheckpointReader, name: str, *, rows: int | None) -> torch.Tensor:
    """[] for one scale, [rows, 1] for one per row; rows None: one only."""
    info = reader.info(name)
    if info.dtype not in UNQUANTISED:
        raise tensor_error(info.file, name, f"is {info.dtype}; a scale is F32, F16 or BF16")
    scale = reader.read(name).float()
    if not (scale.isfinite() & (scale > 0)).all():
        raise tensor_error(info.file, name, "holds a scale that is not finite and above 0")
    if scale.numel() == 1:
        return scale.view(())
    if rows is None or info.shape not in ((rows,), (rows, 1)):
        wanted = "[] or [1]" if rows is None else f"[], [1], [{rows}] or [{rows}, 1]"
        raise tensor_error(
            info.file, name, f"has the shape {list(info.shape)}; it must be {wanted}"
        )
    return scale.view(-1, 1)
