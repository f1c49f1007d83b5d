"""Writes small GGUF files, from the format's description, for the tests of the reader."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

F32, F16, Q4_1, Q8_0, BF16 = 0, 1, 3, 8, 30
ALIGNMENT = 32


def gguf_bytes(
    metadata: Mapping[str, object], tensors: Mapping[str, tuple[Sequence[int], int, bytes]]
) -> bytes:
    """A GGUF file; a tensor is (shape with rows first, type, raw bytes)."""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    for key, value in metadata.items():
        head += _string(key) + _value(value)
    data = b""
    for name, (shape, kind, raw) in tensors.items():
        head += _string(name) + struct.pack("<I", len(shape))
        head += struct.pack(f"<{len(shape)}Q", *reversed(shape))
        head += struct.pack("<IQ", kind, len(data))
        data += _padded(raw)
    return _padded(head) + data


def q4_1_block(scale: float, minimum: float, codes: Sequence[int]) -> bytes:
    """32 values `scale * code + minimum`."""
    halves = bytes(codes[i] | codes[i + 16] << 4 for i in range(16))
    return struct.pack("<ee", scale, minimum) + halves


def q8_0_block(scale: float, codes: Sequence[int]) -> bytes:
    """32 values `scale * code`."""
    return struct.pack("<e32b", scale, *codes)


def _value(value: object) -> bytes:
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + _string(value)
    assert isinstance(value, list)
    items = [_value(item) for item in value]
    kind = items[0][:4] if items else struct.pack("<I", 8)
    return (
        struct.pack("<I", 9)
        + kind
        + struct.pack("<Q", len(items))
        + b"".join(item[4:] for item in items)
    )


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _padded(raw: bytes) -> bytes:
    return raw + bytes(-len(raw) % ALIGNMENT)
