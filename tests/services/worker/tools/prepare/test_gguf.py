from __future__ import annotations

import struct

import numpy as np
import pytest

from services.worker.tools.prepare.errors import PrepareError
from services.worker.tools.prepare.gguf import Gguf
from tests.services.worker.tools.prepare.gguf_writer import (
    BF16,
    F16,
    F32,
    Q4_1,
    Q8_0,
    gguf_bytes,
    q4_1_block,
    q8_0_block,
)

METADATA = {"general.name": "é", "llama.block_count": 2, "flag": True, "eps": 0.5, "ids": [3, 1]}


def test_metadata_of_every_kind_is_read() -> None:
    assert Gguf(gguf_bytes(METADATA, {})).metadata == METADATA


def test_q4_1_takes_low_halves_first() -> None:
    codes = [*range(16), *reversed(range(16))]
    raw = q4_1_block(0.5, -2.0, codes) + q4_1_block(2.0, 1.0, codes)
    tensor = Gguf(gguf_bytes({}, {"w": ((2, 32), Q4_1, raw)})).tensor("w")
    assert tensor.shape == (2, 32)
    assert tensor.dtype == np.float32
    assert tensor[0].tolist() == [0.5 * code - 2.0 for code in codes]
    assert tensor[1].tolist() == [2.0 * code + 1.0 for code in codes]


def test_types_of_16_bits_are_read() -> None:
    values = np.array([[1.5, -2.0], [0.25, 448.0]], np.float32)
    halves = {
        "f16": ((2, 2), F16, values.astype(np.float16).tobytes()),
        "bf16": ((2, 2), BF16, (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()),
    }
    gguf = Gguf(gguf_bytes({}, halves))
    for name in halves:
        assert gguf.tensor(name).tolist() == values.tolist()


def test_q8_0_codes_are_signed() -> None:
    codes = [-128, 127, -1, *range(29)]
    tensor = Gguf(gguf_bytes({}, {"w": ((1, 32), Q8_0, q8_0_block(0.25, codes))})).tensor("w")
    assert tensor[0].tolist() == [0.25 * code for code in codes]


def test_16_bits_are_read_exactly() -> None:
    tensors = {
        "half": ((1, 3), F16, struct.pack("<3e", 1.5, -(2.0**-24), 65504)),
        "brain": ((1, 2), BF16, struct.pack("<2H", 0x3FC0, 0xC2F7)),
    }
    gguf = Gguf(gguf_bytes({}, tensors))
    assert gguf.tensor("half").tolist() == [[1.5, -(2.0**-24), 65504]]
    assert gguf.tensor("brain").tolist() == [[1.5, -123.5]]


def test_tensors_start_where_their_offsets_say() -> None:
    tensors = {
        "a": ((3,), F32, struct.pack("<3f", 1, 2, 3)),
        "b": ((2, 1), F32, struct.pack("<2f", 4, 5)),
    }
    gguf = Gguf(gguf_bytes(METADATA, tensors))
    assert gguf.names == ["a", "b"]
    assert gguf.tensor("a").tolist() == [1, 2, 3]
    assert gguf.tensor("b").tolist() == [[4], [5]]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"GGML" + bytes(20), "not a GGUF file"),
        (gguf_bytes(METADATA, {})[:40], "ends early"),
        (gguf_bytes({}, {"w": ((32,), 2, bytes(18))}), "tensor w has GGUF type 2"),
    ],
)
def test_what_is_not_understood_is_named(data: bytes, problem: str) -> None:
    with pytest.raises(PrepareError, match=problem):
        Gguf(data)


def test_a_tensor_past_the_end_is_refused() -> None:
    data = gguf_bytes({}, {"w": ((32, 32), F32, bytes(64))})
    with pytest.raises(PrepareError, match="inside tensor w"):
        Gguf(data).tensor("w")
