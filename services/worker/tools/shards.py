"""Writes safetensors as they are published: in shards, with an index, one tensor after the other.

A checkpoint may be larger than memory: its tensors are declared first, which fixes every header and
every place, and then their bytes are made, file by file.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from services.worker.stored_tensors import INDEX, ITEM_BYTES, SINGLE

SHARD_BYTES = 10 * 10**9  # what transformers took before it made shards smaller
_ALIGNMENT = 8

# Pieces of the tensor's bytes, in order; any dtype, C-contiguous.
Pieces = Iterable[npt.NDArray[Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Declared:
    """A tensor that will be written; `dtype` is the format's name of it."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """What it takes in the file."""
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """One file, and its tensors in the order of the model."""

    file: str
    tensors: tuple[Declared, ...]

    @property
    def num_bytes(self) -> int:
        """Of its tensors."""
        return sum(tensor.num_bytes for tensor in self.tensors)

    @property
    def placed(self) -> list[Declared]:
        """In the order of the file: large items first, so that each is aligned."""
        return sorted(self.tensors, key=lambda t: (-ITEM_BYTES[t.dtype], t.name))

    def header(self) -> bytes:
        """The length of the header, and the header."""
        ends = list(itertools.accumulate(tensor.num_bytes for tensor in self.placed))
        entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        for tensor, end in zip(self.placed, ends, strict=True):
            entries[tensor.name] = {
                "dtype": tensor.dtype,
                "shape": list(tensor.shape),
                "data_offsets": [end - tensor.num_bytes, end],
            }
        text = json.dumps(entries, separators=(",", ":")).encode()
        text += b" " * (-len(text) % _ALIGNMENT)
        return len(text).to_bytes(8, "little") + text


def plan_shards(tensors: Sequence[Declared], limit: int = SHARD_BYTES) -> list[Shard]:
    """Files of at most `limit` bytes: a tensor that does not fit any more begins the next one."""
    groups: list[list[Declared]] = [[]]
    used = 0
    for tensor in tensors:
        if groups[-1] and used + tensor.num_bytes > limit:
            groups.append([])
            used = 0
        groups[-1].append(tensor)
        used += tensor.num_bytes
    if len(groups) == 1:
        return [Shard(file=SINGLE, tensors=tuple(groups[0]))]
    return [
        Shard(file=f"model-{n:05d}-of-{len(groups):05d}.safetensors", tensors=tuple(group))
        for n, group in enumerate(groups, start=1)
    ]


def write_shards(
    folder: Path,
    shards: Sequence[Shard],
    pieces: Callable[[Declared], Pieces],
    on_bytes: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Writes all files; on_bytes is told (done, total)."""
    total, done = sum(shard.num_bytes for shard in shards), 0
    on_bytes(0, total)
    for shard in shards:
        with (folder / shard.file).open("wb") as file:
            file.write(shard.header())
            for tensor in shard.placed:
                start = file.tell()
                for piece in pieces(tensor):
                    file.write(np.ascontiguousarray(piece).data)
                    on_bytes(done + file.tell() - start, total)
                assert file.tell() - start == tensor.num_bytes, tensor.name
                done += tensor.num_bytes
    _write_index(folder, shards)


def write_sparse_shards(folder: Path, shards: Sequence[Shard]) -> None:
    """Files with their true headers and sizes, whose tensors are holes: zeros that take no room."""
    for shard in shards:
        header = shard.header()
        with (folder / shard.file).open("wb") as file:
            file.write(header)
            file.truncate(len(header) + shard.num_bytes)
    _write_index(folder, shards)


def _write_index(folder: Path, shards: Sequence[Shard]) -> None:
    """Where there is more than one file."""
    if len(shards) == 1:
        return
    index = {
        "metadata": {"total_size": sum(shard.num_bytes for shard in shards)},
        "weight_map": {tensor.name: shard.file for shard in shards for tensor in shard.tensors},
    }
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
