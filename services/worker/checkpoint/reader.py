"""Reads safetensors, one file or several with an index, and nothing else: no pickle, no code.

    file = [8 bytes: length of the header][header: JSON][the tensors, one after the other]

The header names each tensor with its dtype, shape and place. Everything in it is checked against
the file before a tensor is handed out, for a checkpoint may come from anyone: a wrong header is an
error that names file, tensor and reason, never a read outside the file.
"""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeGuard

import torch

from octavo.errors import InvalidArgumentError, NotFoundError

_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_MAX_HEADER_BYTES = 100 * 10**6  # the format's own limit
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorInfo:
    """One tensor of a file, by its header: nothing of it has been read."""

    name: str
    file: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int  # bytes from the start of the file
    num_bytes: int


class CheckpointReader:
    """The tensors of a folder, by name. Maps the files; pages are read when tensors are used."""

    def __init__(self, folder: Path) -> None:
        """Raises NotFoundError without safetensors, InvalidArgumentError for a broken file."""
        self.tensors: dict[str, TensorInfo] = {}
        self._maps: dict[str, mmap.mmap] = {}
        for file, expected in _files(folder).items():
            self._maps[file] = _map_file(folder / file)
            for info in _read_header(file, self._maps[file]):
                self._add(info)
            for name in expected:
                if name not in self.tensors or self.tensors[name].file != file:
                    raise tensor_error(_INDEX, name, f"is said to be in {file}, which lacks it")

    @property
    def total_bytes(self) -> int:
        """What all tensors take in the files."""
        return sum(info.num_bytes for info in self.tensors.values())

    def info(self, name: str) -> TensorInfo:
        """Raises InvalidArgumentError where the checkpoint lacks the tensor."""
        if name not in self.tensors:
            raise tensor_error("the checkpoint", name, "is missing")
        return self.tensors[name]

    def read(self, name: str) -> torch.Tensor:
        """The tensor as a view of the mapped file, private to this process (copied on write)."""
        info = self.info(name)
        if info.num_bytes == 0:
            return torch.empty(info.shape, dtype=info.dtype)
        flat = torch.frombuffer(
            self._maps[info.file],
            dtype=info.dtype,
            count=math.prod(info.shape),
            offset=info.start,
        )
        return flat.view(info.shape)

    def _add(self, info: TensorInfo) -> None:
        if info.name in self.tensors:
            other = self.tensors[info.name].file
            raise tensor_error(info.file, info.name, f"is in {other} too")
        self.tensors[info.name] = info


def tensor_error(file: str, tensor: str, reason: str) -> InvalidArgumentError:
    """The error "{file}: tensor {tensor} {reason}."."""
    return InvalidArgumentError(
        f"{file}: tensor {tensor[:200]!r} {reason}.",
        reason="CHECKPOINT_INVALID",
        metadata={"file": file, "tensor": tensor[:200]},
    )


def _file_error(file: str, reason: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"{file}: {reason}.", reason="CHECKPOINT_INVALID", metadata={"file": file}
    )


def _files(folder: Path) -> Mapping[str, list[str]]:
    """The files to read, each with the tensors that an index puts there."""
    if (folder / _INDEX).is_file():
        return _read_index(folder / _INDEX)
    if (folder / _SINGLE).is_file():
        return {_SINGLE: []}
    others = sorted(path.name for path in folder.glob("*") if path.suffix in _PICKLES)
    refused = f"; {others[0]} is a pickle, which may run code, and is never read" if others else ""
    raise NotFoundError(
        f"{folder} holds neither {_SINGLE} nor {_INDEX}{refused}.",
        reason="CHECKPOINT_FILE_MISSING",
        metadata={"file": _SINGLE},
    )


_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def _read_index(path: Path) -> Mapping[str, list[str]]:
    if path.stat().st_size > _MAX_HEADER_BYTES:
        raise _file_error(path.name, f"is larger than {_MAX_HEADER_BYTES} bytes")
    try:
        weight_map = json.loads(path.read_bytes())["weight_map"]
        items = list(weight_map.items())
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        raise _file_error(path.name, "is not JSON with a weight_map object") from None
    files: dict[str, list[str]] = {}
    for name, file in items:
        if not _is_plain_safetensors_name(file):
            raise tensor_error(
                path.name, name, f"is in {file!r:.100}; it must be a .safetensors file beside it"
            )
        files.setdefault(file, []).append(name)
    if not files:
        raise _file_error(path.name, "names no tensor")
    for file in files:
        if not (path.parent / file).is_file():
            raise NotFoundError(
                f"{path.name}: {file} does not exist.",
                reason="CHECKPOINT_FILE_MISSING",
                metadata={"file": file},
            )
    return files


def _is_plain_safetensors_name(file: object) -> bool:
    """A file of this very folder: a path could lead out of it."""
    return (
        isinstance(file, str)
        and file.endswith(".safetensors")
        and PurePosixPath(file).name == file
        and not any(mark in file for mark in ("/", "\\", "\0"))
    )


def _map_file(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        try:
            # A private copy, so that torch gets a writable buffer; nothing is ever written to it.
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except (ValueError, OSError) as error:
            raise _file_error(path.name, f"cannot be mapped: {error}") from None


def _read_header(file: str, content: mmap.mmap) -> Iterator[TensorInfo]:
    if len(content) < 8:
        raise _file_error(file, f"is cut off: {len(content)} bytes hold no header")
    length = int.from_bytes(content[:8], "little")
    if not 0 < length <= min(_MAX_HEADER_BYTES, len(content) - 8):
        raise _file_error(
            file, f"has a header of {length} bytes in {len(content)} (not safetensors?)"
        )
    try:
        header = json.loads(content[8 : 8 + length], object_pairs_hook=_unique_names)
    except (ValueError, RecursionError) as error:
        raise _file_error(file, f"has a header that is not JSON: {error}") from None
    if not isinstance(header, dict):
        raise _file_error(file, "has a header that is not a JSON object")
    header.pop("__metadata__", None)
    infos = [_tensor_info(file, name, entry, 8 + length) for name, entry in header.items()]
    _check_layout(file, infos, 8 + length, len(content))
    yield from infos


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name stands twice")
    return result


def _tensor_info(file: str, name: str, entry: object, data_start: int) -> TensorInfo:
    if not isinstance(entry, dict):
        raise tensor_error(file, name, "is not described by an object")
    dtype, shape, place = (entry.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise tensor_error(file, name, f"has the unknown dtype {dtype!r:.40}")
    if not _is_list_of_sizes(shape):
        raise tensor_error(file, name, f"has the impossible shape {shape!r:.80}")
    if not _is_list_of_sizes(place) or len(place) != 2 or place[0] > place[1]:
        raise tensor_error(file, name, f"has the impossible data_offsets {place!r:.80}")
    num_bytes = math.prod(shape) * _DTYPES[dtype].itemsize
    if place[1] - place[0] != num_bytes:
        raise tensor_error(
            file, name, f"has {place[1] - place[0]} bytes; {dtype} {shape!r:.80} takes {num_bytes}"
        )
    return TensorInfo(
        name=name,
        file=file,
        dtype=_DTYPES[dtype],
        shape=tuple(shape),
        start=data_start + place[0],
        num_bytes=num_bytes,
    )


def _is_list_of_sizes(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 2**48 for n in value)


def _check_layout(file: str, infos: list[TensorInfo], start: int, file_bytes: int) -> None:
    """The tensors must fill the file without a gap, as the format asks."""
    for info in sorted(infos, key=lambda info: (info.start, info.num_bytes)):
        if info.start + info.num_bytes > file_bytes:
            missing = info.start + info.num_bytes - file_bytes
            raise tensor_error(file, info.name, f"is cut off: {missing} bytes are missing")
        if info.start != start:
            raise tensor_error(file, info.name, "overlaps another tensor or leaves a gap before it")
        start += info.num_bytes
    if start != file_bytes:
        raise _file_error(file, f"has {file_bytes - start} bytes that belong to no tensor")
