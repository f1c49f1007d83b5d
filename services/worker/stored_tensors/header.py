"""The header of a safetensors file: which tensors it holds, and where.

    file = [8 bytes: length of the header][header: JSON][the tensors, one after the other]

Everything in it is checked against the file before a tensor is handed out, for a checkpoint may
come from anyone: a wrong header is an error that names file, tensor and reason, never a read
outside the file (https://huggingface.co/docs/safetensors).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard

from octavo.errors import InvalidArgumentError

MAX_HEADER_BYTES = 100 * 10**6  # the format's own limit
_MAX_DIMENSIONS = 16
# Bytes of an element, by the format's name of its type.
ITEM_BYTES: Mapping[str, int] = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredTensor:
    """One tensor of a file, by its header: nothing of it has been read."""

    name: str
    file: str
    dtype: str  # the format's name of it: BF16, F8_E4M3, I8
    shape: tuple[int, ...]
    start: int  # bytes from the start of the file
    num_bytes: int


def read_header(path: Path) -> list[StoredTensor]:
    """The tensors of a file. Raises InvalidArgumentError for a header that is wrong."""
    try:
        file_bytes = path.stat().st_size
        with path.open("rb") as file:
            header, start = _read_json(path.name, file, file_bytes)
    except OSError as error:
        raise file_error(path.name, f"cannot be read: {error.strerror}") from None
    tensors = [_stored_tensor(path.name, name, entry, start) for name, entry in header.items()]
    _check_layout(path.name, tensors, start, file_bytes)
    return tensors


def tensor_error(file: str, tensor: str, reason: str) -> InvalidArgumentError:
    """The error "{file}: tensor {tensor} {reason}."."""
    return InvalidArgumentError(
        f"{file}: tensor {tensor[:200]!r} {reason}.",
        reason="CHECKPOINT_INVALID",
        metadata={"file": file, "tensor": tensor[:200]},
    )


def file_error(file: str, reason: str) -> InvalidArgumentError:
    """The error "{file}: {reason}."."""
    return InvalidArgumentError(
        f"{file}: {reason}.", reason="CHECKPOINT_INVALID", metadata={"file": file}
    )


def _read_json(name: str, file: BinaryIO, file_bytes: int) -> tuple[dict[str, Any], int]:
    """The header's entries without the metadata, and where the tensors begin."""
    if file_bytes < 8:
        raise file_error(name, f"is cut off: {file_bytes} bytes hold no header")
    length = int.from_bytes(file.read(8), "little")
    if not 0 < length <= min(MAX_HEADER_BYTES, file_bytes - 8):
        raise file_error(name, f"has a header of {length} bytes in {file_bytes} (not safetensors?)")
    try:
        header = json.loads(file.read(length), object_pairs_hook=_unique_names)
    except (ValueError, RecursionError) as error:
        raise file_error(name, f"has a header that is not JSON: {error}") from None
    if not isinstance(header, dict):
        raise file_error(name, "has a header that is not a JSON object")
    header.pop("__metadata__", None)
    return header, 8 + length


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name stands twice")
    return result


def _stored_tensor(file: str, name: str, entry: object, data_start: int) -> StoredTensor:
    if not isinstance(entry, dict):
        raise tensor_error(file, name, "is not described by an object")
    dtype, shape, place = (entry.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise tensor_error(file, name, f"has the unknown dtype {dtype!r:.40}")
    if not _is_list_of_sizes(shape):
        raise tensor_error(file, name, f"has the impossible shape {shape!r:.80}")
    if not _is_list_of_sizes(place) or len(place) != 2 or place[0] > place[1]:
        raise tensor_error(file, name, f"has the impossible data_offsets {place!r:.80}")
    num_bytes = math.prod(shape) * ITEM_BYTES[dtype]
    if place[1] - place[0] != num_bytes:
        raise tensor_error(
            file, name, f"has {place[1] - place[0]} bytes; {dtype} {shape!r:.80} takes {num_bytes}"
        )
    return StoredTensor(
        name=name,
        file=file,
        dtype=dtype,
        shape=tuple(shape),
        start=data_start + place[0],
        num_bytes=num_bytes,
    )


def _is_list_of_sizes(value: object) -> TypeGuard[list[int]]:
    return (
        isinstance(value, list)
        and len(value) <= _MAX_DIMENSIONS
        and all(type(n) is int and 0 <= n < 2**48 for n in value)
    )


def _check_layout(file: str, tensors: Sequence[StoredTensor], start: int, file_bytes: int) -> None:
    """The tensors must fill the file without a gap, as the format asks."""
    for tensor in sorted(tensors, key=lambda tensor: (tensor.start, tensor.num_bytes)):
        name, end = tensor.name, tensor.start + tensor.num_bytes
        if end > file_bytes:
            raise tensor_error(file, name, f"is cut off: {end - file_bytes} bytes are missing")
        if tensor.start != start:
            raise tensor_error(file, name, "overlaps another tensor or leaves a gap before it")
        start = end
    if start != file_bytes:
        raise file_error(file, f"has {file_bytes - start} bytes that belong to no tensor")
