"""Whether numbers are finite, by their bits: without a copy, at the speed of the CPU's cache."""

from __future__ import annotations

import torch

from services.worker.checkpoint.reader import TensorInfo, tensor_error

# By dtype: the bits of the least number above 0 that is not finite (infinity, or e4m3's NaN), and
# the integers of its width. All that are not finite lie above it, with or without the sign's bit.
_LEAST_NOT_FINITE = {
    torch.float8_e4m3fn: (0x7F, "i1", "u1"),
    torch.float16: (0x7C00, "i2", "u2"),
    torch.bfloat16: (0x7F80, "i2", "u2"),
    torch.float32: (0x7F80_0000, "i4", "u4"),
}


def is_finite(values: torch.Tensor) -> bool:
    """Whether `values` (contiguous, on the CPU) hold neither NaN nor infinity."""
    least, signed, unsigned = _LEAST_NOT_FINITE[values.dtype]
    bits = values.reshape(-1).view(torch.uint8).numpy()
    if bits.size == 0:
        return True
    sign = 1 << (8 * values.itemsize - 1)
    return bool(bits.view(signed).max() < least and bits.view(unsigned).max() < sign | least)


def refuse_not_finite(info: TensorInfo, values: torch.Tensor) -> None:
    """Raises InvalidArgumentError where `values`, some of the tensor's, are not finite.

    Once for values as they are stored, once more where they were converted to a smaller range.
    """
    if not is_finite(values):
        raise tensor_error(info.file, info.name, _wrong(info.dtype, values.dtype))


def _wrong(stored: torch.dtype, held: torch.dtype) -> str:
    if held == torch.float8_e4m3fn:
        return "holds a NaN"  # it has no infinity
    if held == stored:
        return "holds a value that is not finite"
    return f"holds a value that is too large for {str(held).removeprefix('torch.')}"
