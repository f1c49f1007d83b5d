"""Philox4x32-10 gives what Random123's known-answer file says."""

from __future__ import annotations

import pytest
import torch

from services.worker.engine.philox import philox_4x32, uniform

# The lines "philox4x32 10" of DEShawResearch/random123, tests/kat_vectors: counter, key, result.
_KNOWN_ANSWERS = [
    "00000000 00000000 00000000 00000000 00000000 00000000 6627e8d5 e169c58d bc57ac4c 9b00dbd8",
    "ffffffff ffffffff ffffffff ffffffff ffffffff ffffffff 408f276d 41c83b0e a20bc7c6 6d5451fd",
    "243f6a88 85a308d3 13198a2e 03707344 a4093822 299f31d0 d16cfe09 94fdcceb 5001e420 24126ea1",
]


def _words(line: str) -> list[int]:
    return [int(word, 16) for word in line.split()]


@pytest.mark.parametrize("line", _KNOWN_ANSWERS)
def test_known_answer(line: str, device: torch.device) -> None:
    words = _words(line)
    counter, key = (torch.tensor([part], device=device) for part in (words[:4], words[4:6]))
    result = philox_4x32(counter, key)
    assert result.tolist() == [words[6:]]


def test_rows_are_independent() -> None:
    words = torch.tensor([_words(line) for line in _KNOWN_ANSWERS])
    assert torch.equal(philox_4x32(words[:, :4], words[:, 4:6]), words[:, 6:])


def test_uniform_is_53_bits_of_the_first_two_words(device: torch.device) -> None:
    words = _words(_KNOWN_ANSWERS[0])
    counter, key = (torch.tensor([part], device=device) for part in (words[:4], words[4:6]))
    number = uniform(counter, key).item()
    assert number == ((0x6627E8D5 << 32 | 0xE169C58D) >> 11) / 2**53


def test_uniform_fills_the_unit_interval_evenly() -> None:
    counter = torch.zeros(20_000, 4, dtype=torch.int64)
    counter[:, 0] = torch.arange(20_000)
    numbers = uniform(counter, torch.tensor([[7, 9]]).expand(20_000, 2))
    assert numbers.min() >= 0 and numbers.max() < 1
    counts = torch.histc(numbers, bins=50, min=0, max=1)
    chi_square = ((counts - 400) ** 2 / 400).sum().item()
    assert chi_square < 85.4  # 49 degrees of freedom, p = 0.001
