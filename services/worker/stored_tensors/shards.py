"""Which files of a folder hold the tensors: one, or several with an index.

Files are named by the index, which may come from anyone: a name leads to a regular file of this
very folder, or is refused. A symlink is followed wherever it leads, because a hub's cache is made
of them (docs/decisions/0022-symlinks-are-followed.md).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from octavo.errors import NotFoundError
from services.worker.stored_tensors.header import (
    MAX_HEADER_BYTES,
    StoredTensor,
    file_error,
    read_header,
    tensor_error,
)

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLE = "is a pickle, which may run code, and is never read"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")


def read_stored_tensors(folder: Path) -> list[StoredTensor]:
    """The tensors of the files that are there and would be loaded: those of the index, else
    model.safetensors.

    Others may lie beside them, with the same weights under other names (consolidated.safetensors).
    Raises InvalidArgumentError where the index or a header is wrong.
    """
    is_indexed = (folder / INDEX).is_file()
    paths = [folder / file for file in (read_index(folder) if is_indexed else [SINGLE])]
    return [tensor for path in paths if path.is_file() for tensor in read_header(path)]


def find_shards(folder: Path) -> Mapping[str, list[str]]:
    """The files to read, each with the tensors that an index puts there.

    Raises NotFoundError for a file that is not there, InvalidArgumentError for a wrong index.
    """
    if (folder / INDEX).is_file():
        shards = read_index(folder)
        for file in shards:
            _check_is_file(folder / file)
        _check_all_named(folder, shards)
        return shards
    if (folder / SINGLE).is_file():
        return {SINGLE: []}
    pickle = refused_pickle(folder) if folder.is_dir() else None
    raise NotFoundError(
        f"{folder} holds neither {SINGLE} nor {INDEX}{f'; {pickle}' if pickle else ''}.",
        reason="CHECKPOINT_FILE_MISSING",
        metadata={"file": SINGLE},
    )


def refused_pickle(folder: Path) -> str | None:
    """What to say of pytorch_model.bin and its like, where the folder holds some."""
    pickles = sorted(path.name for path in folder.iterdir() if is_pickle(path.name))
    return f"{pickles[0]} {PICKLE}" if pickles else None


def is_pickle(name: str) -> bool:
    """By the name of the file."""
    return name.endswith(_PICKLES)


def read_index(folder: Path) -> dict[str, list[str]]:
    """The tensors by the file that the index of `folder` puts them in; a file may be missing."""
    path = folder / INDEX
    if path.stat().st_size > MAX_HEADER_BYTES:
        raise file_error(path.name, f"is larger than {MAX_HEADER_BYTES} bytes")
    try:
        weight_map = json.loads(path.read_bytes())["weight_map"]
        items = list(weight_map.items())
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        raise file_error(path.name, "is not JSON with a weight_map object") from None
    except OSError as error:
        raise file_error(path.name, f"cannot be read: {error.strerror}") from None
    files: dict[str, list[str]] = {}
    for name, file in items:
        if not _is_plain_safetensors_name(file):
            wanted = "it must be a .safetensors file beside it"
            if isinstance(file, str) and is_pickle(file):
                wanted = f"that {PICKLE}"
            raise tensor_error(path.name, name, f"is in {file!r:.100}; {wanted}")
        files.setdefault(file, []).append(name)
    if not files:
        raise file_error(path.name, "names no tensor")
    return files


def _check_is_file(path: Path) -> None:
    file = path.name
    if not path.exists():
        raise NotFoundError(
            f"{INDEX}: {file} does not exist.",
            reason="CHECKPOINT_FILE_MISSING",
            metadata={"file": file},
        )
    if not path.is_file():  # a pipe would be waited for
        raise file_error(INDEX, f"names {file}, which is no file")


def _check_all_named(folder: Path, named: Mapping[str, object]) -> None:
    """A shard that the index leaves out would be tensors left out."""
    for path in sorted(folder.glob("model-*.safetensors")):
        if _SHARD.fullmatch(path.name) and path.name not in named:
            raise file_error(INDEX, f"does not name {path.name}, which is beside it")


def _is_plain_safetensors_name(file: object) -> bool:
    """A file of this very folder: a path could lead out of it."""
    return (
        isinstance(file, str)
        and file.endswith(".safetensors")
        and len(file) < 256
        and PurePosixPath(file).name == file
        and file.isprintable()
        and "\\" not in file
    )
