"""A stored tensor, some rows at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from services.worker.checkpoint.reader import CheckpointReader, TensorInfo, tensor_error

# The format's names of what weights and scales may be.
TYPES = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "I8": torch.int8,
}
_NAMES = {dtype: name for name, dtype in TYPES.items()}
_PIECE_BYTES = 4 * 2**20  # worked on while it is in the CPU's cache


def type_name(info: TensorInfo) -> str:
    """The format's name of a tensor's type. Raises InvalidArgumentError for what is no weight's."""
    if info.dtype not in _NAMES:
        raise tensor_error(info.file, info.name, f"is {info.dtype}; weights are F32, F16 or BF16")
    return _NAMES[info.dtype]


def tensor_pieces(reader: CheckpointReader, name: str) -> Iterator[torch.Tensor]:
    """Of a matrix [rows, columns] some rows after the others; anything else whole."""
    info = reader.info(name)
    if len(info.shape) != 2:
        yield reader.read(name)
        return
    columns = range(info.shape[1])
    for rows in reader.pieces(name, range(info.shape[0]), columns, _PIECE_BYTES):
        piece = torch.empty((len(rows), len(columns)), dtype=info.dtype)
        reader.read_part(name, rows, columns, piece)
        yield piece
