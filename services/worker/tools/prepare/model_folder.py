"""Writes the checkpoint's folder, and says whether a folder holds it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import TensorSpec, serialize_file

from services.worker.tools.prepare.convert import Tensors

STAMP_NAME = "octavo-recipe.json"
_DTYPE_NAMES = {np.int8: "int8", np.uint16: "bfloat16", np.float32: "float32"}


def write_model(
    folder: Path, tensors: Tensors, documents: Mapping[str, Mapping[str, Any]], recipe: str
) -> None:
    """Writes tensors, JSON documents by file name, and last the stamp that makes it valid."""
    write_documents(folder, documents)
    _write_tensors(folder / "model.safetensors", tensors)
    write_stamp(folder, recipe)


def write_documents(folder: Path, documents: Mapping[str, Mapping[str, Any]]) -> None:
    """JSON documents by file name."""
    for name, document in documents.items():
        _write_json(folder / name, document)


def write_stamp(folder: Path, recipe: str) -> None:
    """Says by which recipe the files of `folder` were written, and that they are whole."""
    paths = (path for path in sorted(folder.iterdir()) if path.name != STAMP_NAME)
    sizes = {path.name: path.stat().st_size for path in paths}
    _write_json(folder / STAMP_NAME, {"recipe": recipe, "bytes": sizes})


def is_ours(folder: Path) -> bool:
    """Whether `folder` was written by some recipe, and so may be replaced."""
    return (folder / STAMP_NAME).is_file()


def is_complete(folder: Path, recipe: str) -> bool:
    """Whether `folder` was written by `recipe` and every file still has its size."""
    try:
        stamp = json.loads((folder / STAMP_NAME).read_text(encoding="utf-8"))
        return bool(stamp["recipe"] == recipe) and all(
            (folder / name).stat().st_size == size for name, size in stamp["bytes"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Indented, but for the vocabulary: 49,000 lines are read by nobody and double the file."""
    indent = None if path.name == "tokenizer.json" else 2
    text = json.dumps(document, indent=indent, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def _write_tensors(path: Path, tensors: Tensors) -> None:
    """TensorSpec holds addresses only: `tensors` keeps the memory alive until all is written."""
    specs = {
        name: TensorSpec(
            dtype=_DTYPE_NAMES[tensor.dtype.type],
            shape=list(tensor.shape),
            data_ptr=tensor.ctypes.data,
            data_len=tensor.nbytes,
        )
        for name, tensor in tensors.items()
    }
    assert all(tensor.flags.c_contiguous for tensor in tensors.values())
    path.touch()
    mode = path.stat().st_mode  # as the user's umask has it; serialize_file makes it private
    serialize_file(specs, str(path), metadata={"format": "pt"})
    path.chmod(mode)
