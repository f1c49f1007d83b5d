"""Rounds float32 to the bits of e4m3 (float8_e4m3fn) and bf16, to nearest, ties to even."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

E4M3_MAX = 448.0
_MANTISSA_BITS = 3
_LEAST_EXPONENT = -6  # below it values are subnormal: the step stays 2^-9
_DROPPED_BITS = 23 - _MANTISSA_BITS  # of a float32's mantissa
# Where a float32's last bit is worth 2^-9: adding it rounds to the subnormals' step.
_SUBNORMAL_SHIFT = np.float32(1.5 * 2.0**14)


def e4m3_bits(values: npt.NDArray[np.float32]) -> npt.NDArray[np.int8]:
    """The bits of `values` in e4m3, saturated at +-448, in the shape of `values`."""
    magnitude = np.minimum(np.abs(values), np.float32(E4M3_MAX))
    exponent = (magnitude.view(np.int32) >> 23) - 127
    np.maximum(exponent, _LEAST_EXPONENT, out=exponent)
    # In steps of this exponent: 8-16 where the value is normal, 0-8 where it is subnormal. Adding
    # the exponent's own field carries 16 into the next exponent, and needs no case apart.
    steps = np.rint(np.ldexp(magnitude, _MANTISSA_BITS - exponent)).astype(np.int32)
    code = ((exponent - _LEAST_EXPONENT) << _MANTISSA_BITS) + steps
    code |= np.signbit(values).astype(np.int32) << 7
    bits: npt.NDArray[np.int8] = code.astype(np.uint8).view(np.int8)
    return bits


def e4m3_rounded(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The values that `e4m3_bits` stand for, for magnitudes up to 448; several times as fast."""
    bits = values.view(np.uint32)
    to_even = (bits >> _DROPPED_BITS) & 1
    half = np.uint32((1 << (_DROPPED_BITS - 1)) - 1)
    normal = ((bits + half + to_even) >> _DROPPED_BITS << _DROPPED_BITS).view(np.float32)
    subnormal = (values + _SUBNORMAL_SHIFT) - _SUBNORMAL_SHIFT
    return np.where(np.abs(values) < np.float32(2.0**_LEAST_EXPONENT), subnormal, normal)


def bf16_bits(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """The bits of finite `values` in bf16: the upper half of float32, rounded."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    to_even = (bits >> 16) & 1
    return ((bits + 0x7FFF + to_even) >> 16).astype(np.uint16)


def bf16_values(bits: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """The values that bf16 `bits` stand for."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
