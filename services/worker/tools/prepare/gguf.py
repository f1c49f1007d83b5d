"""Reads a GGUF file: metadata, and tensors as float32.

Knows F32, F16, BF16, Q4_1 and Q8_0. Source of the layout:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from services.worker.tools.prepare.errors import PrepareError
from services.worker.tools.prepare.rounding import bf16_values

FloatArray = npt.NDArray[np.float32]

_MAGIC = b"GGUF"
_VERSION = 3
_BLOCK = 32  # values of a quantised block
_SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
_STRING, _ARRAY = 8, 9


def dequantise_f32(raw: bytes) -> FloatArray:
    """Plain float32."""
    return np.frombuffer(raw, np.float32)


def dequantise_f16(raw: bytes) -> FloatArray:
    """Plain float16."""
    return np.frombuffer(raw, "<f2").astype(np.float32)


def dequantise_bf16(raw: bytes) -> FloatArray:
    """Plain bf16: the upper half of float32."""
    return bf16_values(np.frombuffer(raw, "<u2"))


def dequantise_q4_1(raw: bytes) -> FloatArray:
    """A block: scale f16, minimum f16, 16 bytes; the low halves are values 0-15, the high 16-31."""
    blocks = np.frombuffer(raw, [("scale", "<f2"), ("minimum", "<f2"), ("halves", "u1", 16)])
    halves = blocks["halves"]
    codes: FloatArray = np.concatenate([halves & 15, halves >> 4], axis=1).astype(np.float32)
    scale = blocks["scale"].astype(np.float32)[:, None]
    minimum = blocks["minimum"].astype(np.float32)[:, None]
    return (codes * scale + minimum).ravel()  # from [blocks, 32]


def dequantise_q8_0(raw: bytes) -> FloatArray:
    """A block: scale f16, 32 signed bytes."""
    blocks = np.frombuffer(raw, [("scale", "<f2"), ("codes", "i1", _BLOCK)])
    scale = blocks["scale"].astype(np.float32)[:, None]
    codes: FloatArray = blocks["codes"].astype(np.float32)  # [blocks, 32]
    return (codes * scale).ravel()


@dataclass(frozen=True, slots=True)
class _Format:
    dequantise: Callable[[bytes], FloatArray]
    block_values: int
    block_bytes: int


_FORMATS = {
    0: _Format(dequantise_f32, 1, 4),
    1: _Format(dequantise_f16, 1, 2),
    3: _Format(dequantise_q4_1, _BLOCK, 20),
    8: _Format(dequantise_q8_0, _BLOCK, 34),
    30: _Format(dequantise_bf16, 1, 2),
}


@dataclass(frozen=True, slots=True)
class _TensorInfo:
    shape: tuple[int, ...]  # rows first, as numpy has it; GGUF writes it the other way round
    format: _Format
    start: int  # counted from the start of the file

    @property
    def num_bytes(self) -> int:
        return int(np.prod(self.shape)) // self.format.block_values * self.format.block_bytes


class Gguf:
    """The metadata of a GGUF file, and its tensors on demand."""

    def __init__(self, data: bytes) -> None:
        cursor = _Cursor(data)
        if cursor.take(4) != _MAGIC or cursor.number("I") != _VERSION:
            raise PrepareError(f"not a GGUF file of version {_VERSION}")
        self._data = data
        num_tensors, num_entries = cursor.number("Q"), cursor.number("Q")
        self.metadata: Mapping[str, Any] = {
            cursor.string(): cursor.value(cursor.number("I")) for _ in range(num_entries)
        }
        infos = dict(_read_tensor_info(cursor) for _ in range(num_tensors))
        alignment = self.metadata.get("general.alignment", 32)
        base = -(-cursor.position // alignment) * alignment
        self._infos = {
            name: _TensorInfo(shape, kind, base + offset)
            for name, (shape, kind, offset) in infos.items()
        }

    @property
    def names(self) -> list[str]:
        """The names of the tensors."""
        return list(self._infos)

    def tensor(self, name: str) -> FloatArray:
        """The tensor `name`, dequantised, rows first."""
        info = self._infos[name]
        raw = self._data[info.start : info.start + info.num_bytes]
        if len(raw) != info.num_bytes:
            raise PrepareError(f"the GGUF file ends inside tensor {name}")
        return info.format.dequantise(raw).reshape(info.shape)


class _Cursor:
    """Reads little-endian values one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    def take(self, size: int) -> bytes:
        start, self.position = self.position, self.position + size
        if self.position > len(self._data):
            raise PrepareError("the GGUF file ends early")
        return self._data[start : self.position]

    def number(self, code: str) -> Any:
        return struct.unpack("<" + code, self.take(struct.calcsize(code)))[0]

    def string(self) -> str:
        return self.take(self.number("Q")).decode("utf-8")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            item_kind, count = self.number("I"), self.number("Q")
            return [self.value(item_kind) for _ in range(count)]
        return self.number(_SCALARS[kind])


def _read_tensor_info(cursor: _Cursor) -> tuple[str, tuple[tuple[int, ...], _Format, int]]:
    name = cursor.string()
    num_dimensions = cursor.number("I")
    shape = tuple(reversed([cursor.number("Q") for _ in range(num_dimensions)]))
    kind, offset = cursor.number("I"), cursor.number("Q")
    if kind not in _FORMATS:
        raise PrepareError(f"tensor {name} has GGUF type {kind}; known: {sorted(_FORMATS)}")
    return name, (shape, _FORMATS[kind], offset)
