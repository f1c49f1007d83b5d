"""Functions of single elements whose bits do not depend on where an element lies.

Torch evaluates exp2 or silu with vector instructions, and what is left over at the end of each
thread's share with scalar code, whose last bit can differ (measured: exp2). So elements are given
to it in pieces that one thread takes and that whole vectors fill. Sums, products, quotients and
roots of single elements need none of this: IEEE 754 defines their every bit.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

_VECTOR = 32  # elements; a multiple of what torch's loops take at once, up to AVX-512
_PIECE = 32768 - 8 * _VECTOR  # elements; torch splits 32,768 and more among threads


def exp2_(x: torch.Tensor) -> torch.Tensor:
    """2^x, in place; x is contiguous float32."""
    return _in_place(torch.Tensor.exp2_, x)


def silu_(x: torch.Tensor) -> torch.Tensor:
    """x / (1 + e^-x), in place; x is contiguous float32."""
    return _in_place(_silu_, x)


def _silu_(x: torch.Tensor) -> torch.Tensor:
    return F.silu(x, inplace=True)


def _in_place(function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    if x.device.type != "cpu":
        return function(x)
    flat = x.view(-1)
    num_whole = flat.numel() // _VECTOR * _VECTOR
    for start in range(0, num_whole, _PIECE):
        function(flat[start : min(start + _PIECE, num_whole)])
    if num_whole < flat.numel():
        rest = flat[num_whole:]
        padded = F.pad(rest, (0, _VECTOR - rest.numel()))
        rest.copy_(function(padded)[: rest.numel()])
    return x
