"""Philox4x32-10: random numbers without state, each a function of a key and a counter.

J. K. Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC'11, section 3.3. Words are
32-bit unsigned numbers held in int64 tensors; products of two words wrap modulo 2^64, which keeps
all 64 bits.
"""

from __future__ import annotations

import torch

_NUM_ROUNDS = 10
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)  # golden ratio, square root of 3 less 1
_MASK = 0xFFFFFFFF


def philox_4x32(counter: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """Four random words for each counter.

    counter [N, 4] and key [N, 2], int64 holding words; the result is [N, 4] of the same kind.
    """
    word0, word1, word2, word3 = counter.unbind(-1)
    key0, key1 = key.unbind(-1)
    for _ in range(_NUM_ROUNDS):
        high0, low0 = _multiply(word0, _MULTIPLIERS[0])
        high1, low1 = _multiply(word2, _MULTIPLIERS[1])
        word0, word1, word2, word3 = high1 ^ word1 ^ key0, low1, high0 ^ word3 ^ key1, low0
        key0 = (key0 + _WEYL[0]) & _MASK
        key1 = (key1 + _WEYL[1]) & _MASK
    return torch.stack((word0, word1, word2, word3), dim=-1)


def uniform(counter: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """One number in [0, 1) for each counter, [N] float64 with 53 random bits."""
    words = philox_4x32(counter, key)
    bits = (words[:, 0] << 21) | (words[:, 1] >> 11)  # 32 and 21 bits
    return bits.to(torch.float64) * 2.0**-53


def _multiply(word: torch.Tensor, factor: int) -> tuple[torch.Tensor, torch.Tensor]:
    """High and low word of the 64-bit product."""
    product = word * factor
    return (product >> 32) & _MASK, product & _MASK
