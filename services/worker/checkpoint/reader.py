"""Reads safetensors, one file or several with an index, and nothing else: no pickle, no code.

Tensors are read with pread, straight to where they will stay: mapped files would end the process
where one is cut off meanwhile, and count as its memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from services.worker.checkpoint.tensor_info import TensorInfo
from services.worker.stored_tensors import (
    INDEX,
    SINGLE,
    file_error,
    find_shards,
    read_header,
    tensor_error,
)

# Written by old versions of AutoFP8: the index has the first name, the file the second.
_RENAMED = (".act_scale", ".input_scale")


class OpenTensor:
    """A tensor whose file is open; several threads may read it at once."""

    def __init__(self, file: int, info: TensorInfo) -> None:
        self._file, self.info = file, info

    def read(self, out: torch.Tensor) -> None:
        """All of it into `out`, contiguous, of the stored dtype."""
        _fill(self._file, self.info, out, self.info.start)

    def read_part(self, rows: range, columns: range, out: torch.Tensor) -> None:
        """Reads a part of a matrix into `out` [rows, columns], contiguous, of the stored dtype.

        Reads no byte beside it: a rank's part of a matrix is not the whole.
        """
        info = self.info
        assert out.shape == (len(rows), len(columns)) and out.dtype == info.dtype
        itemsize, width = info.dtype.itemsize, info.shape[1]
        if len(columns) == width:
            _fill(self._file, info, out, info.start + rows.start * width * itemsize)
            return
        for row, target in zip(rows, out, strict=True):
            start = (row * width + columns.start) * itemsize
            _fill(self._file, info, target, info.start + start)


class CheckpointReader:
    """The tensors of a folder, by name. Holds no file open."""

    def __init__(self, folder: Path) -> None:
        """Raises NotFoundError without safetensors, InvalidArgumentError for a broken file."""
        self.tensors: dict[str, TensorInfo] = {}
        self._folder = folder
        self._lists_all = INDEX if (folder / INDEX).is_file() else SINGLE
        shards = find_shards(folder)
        self.files = [folder / file for file in sorted(shards)]
        for file, expected in shards.items():
            for stored in read_header(folder / file):
                self._add(TensorInfo.of(stored))
            for name in expected:
                if not self._is_in(name, file) and not self._is_in(name.replace(*_RENAMED), file):
                    raise tensor_error(INDEX, name, f"is said to be in {file}, which lacks it")

    @property
    def total_bytes(self) -> int:
        """What all tensors take in the files."""
        return sum(info.num_bytes for info in self.tensors.values())

    def info(self, name: str) -> TensorInfo:
        """Raises InvalidArgumentError where the checkpoint lacks the tensor."""
        if name not in self.tensors:
            raise tensor_error(self._lists_all, name, "is missing")
        return self.tensors[name]

    def read(self, name: str) -> torch.Tensor:
        """The whole tensor, in the dtype it is stored in."""
        info = self.info(name)
        result = torch.empty(info.shape, dtype=info.dtype)
        with self.opened(name) as tensor:
            tensor.read(result)
        return result

    def read_part(self, name: str, rows: range, columns: range, out: torch.Tensor) -> None:
        """Reads a part of a matrix: see OpenTensor."""
        with self.opened(name) as tensor:
            tensor.read_part(rows, columns, out)

    @contextmanager
    def opened(self, name: str) -> Iterator[OpenTensor]:
        """For many reads of one tensor: the system reads ahead in a file that stays open."""
        info = self.info(name)
        try:
            file = os.open(self._folder / info.file, os.O_RDONLY)
        except OSError as error:
            raise file_error(info.file, f"cannot be opened: {error.strerror}") from None
        try:
            yield OpenTensor(file, info)
        finally:
            os.close(file)

    def pieces(self, name: str, rows: range, columns: range, most_bytes: int) -> Iterable[range]:
        """The rows of a part in pieces of about `most_bytes`, at least one row each."""
        row_bytes = max(1, len(columns) * self.info(name).dtype.itemsize)
        step = max(1, most_bytes // row_bytes)
        for start in range(rows.start, rows.stop, step):
            yield range(start, min(start + step, rows.stop))

    def _is_in(self, name: str, file: str) -> bool:
        return name in self.tensors and self.tensors[name].file == file

    def _add(self, info: TensorInfo) -> None:
        if info.name in self.tensors:
            other = self.tensors[info.name].file
            raise tensor_error(info.file, info.name, f"is in {other} too")
        self.tensors[info.name] = info


def _fill(file: int, info: TensorInfo, out: torch.Tensor, start: int) -> None:
    """Reads as many bytes as `out` holds, from byte `start` of the file."""
    target = out.reshape(-1).view(torch.uint8).numpy().data  # a view: `out` is contiguous
    done = 0
    while done < len(target):
        try:
            count = os.preadv(file, [target[done:]], start + done)
        except OSError as error:
            raise tensor_error(info.file, info.name, f"cannot be read: {error.strerror}") from None
        if count == 0:
            raise tensor_error(info.file, info.name, "is cut off: the file became shorter")
        done += count


__all__ = ["CheckpointReader", "OpenTensor", "TensorInfo", "tensor_error"]
