"""What a folder's safetensors files hold, by their headers alone: no tensor is read.

A file begins with the length of its header (8 bytes, little-endian), then comes the header, JSON
(https://huggingface.co/docs/safetensors). checkpoint/reader.py checks all of it before it loads.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octavo.errors import FailedPreconditionError

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
_MAX_HEADER_BYTES = 100_000_000  # the format's own limit
PICKLE = "is a pickle, which may run code, and is never read"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredTensor:
    """One tensor; `dtype` is the format's name of it: BF16, F8_E4M3, I8."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    num_bytes: int


def read_stored_tensors(folder: Path) -> list[StoredTensor]:
    """The tensors of the files that would be loaded: those of the index, else model.safetensors.

    Others may lie beside them, with the same weights under other names (consolidated.safetensors).
    Raises FailedPreconditionError where the index or a header is malformed.
    """
    return [tensor for path in _files(folder) for tensor in _read_file(path)]


def refused_pickle(folder: Path) -> str | None:
    """What to say of pytorch_model.bin and its like, where the folder holds some."""
    pickles = sorted(path.name for path in folder.iterdir() if is_pickle(path.name))
    return f"{pickles[0]} {PICKLE}" if pickles else None


def is_pickle(name: str) -> bool:
    """By the name of the file."""
    return name.endswith(_PICKLES)


def _files(folder: Path) -> list[Path]:
    index, single = folder / INDEX, folder / SINGLE
    if index.is_file():
        return [path for name in _indexed(index) if (path := folder / name).is_file()]
    if single.is_file():
        return [single]
    return sorted(path for path in folder.glob("*.safetensors") if path.is_file())


def _indexed(index: Path) -> list[str]:
    """The files beside the index that it names; what else it says is for the loader to refuse."""
    try:
        names = list(json.loads(index.read_bytes())["weight_map"].values())
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError) as error:
        raise _malformed(index, "is not JSON with a weight_map object") from error
    return sorted({name for name in names if isinstance(name, str) and Path(name).name == name})


def _read_file(path: Path) -> Iterator[StoredTensor]:
    for name, entry in _read_header(path).items():
        if name == "__metadata__":
            continue
        try:
            begin, end = entry["data_offsets"]
            yield StoredTensor(
                name=name,
                dtype=str(entry["dtype"]),
                shape=tuple(int(size) for size in entry["shape"]),
                num_bytes=int(end) - int(begin),
            )
        except (TypeError, KeyError, ValueError, OverflowError) as error:
            raise _malformed(path, f"has a malformed header at tensor {name!r:.200}") from error


def _read_header(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if not 2 <= size <= min(_MAX_HEADER_BYTES, path.stat().st_size - 8):
            raise _malformed(path, f"is no safetensors file: its header has {size} bytes")
        try:
            header = json.loads(file.read(size))
        except (ValueError, RecursionError) as error:
            raise _malformed(path, f"is no safetensors file: {error}") from error
    if not isinstance(header, dict):
        raise _malformed(path, "is no safetensors file: its header is no object")
    return header


def _malformed(path: Path, what: str) -> FailedPreconditionError:
    return FailedPreconditionError(f"--model: {path} {what}.", reason="BAD_CHECKPOINT")
