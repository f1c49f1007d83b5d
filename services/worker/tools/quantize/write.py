"""The tensors of the new folder, in files that are named as the source's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

import torch

from services.worker.checkpoint.reader import CheckpointReader, TensorInfo
from services.worker.fp8_matrix import to_e4m3
from services.worker.stored_tensors import SINGLE
from services.worker.tools.quantize.pieces import tensor_pieces, type_name
from services.worker.tools.quantize.scales import MatrixScales
from services.worker.tools.quantize.scheme import Scheme
from services.worker.tools.shards import Declared, Pieces, Shard, write_shards

# Where the bytes of a tensor come from, piece by piece.
_Made: TypeAlias = Callable[[], Iterator[torch.Tensor]]


def write_tensors(
    folder: Path,
    reader: CheckpointReader,
    scheme: Scheme,
    scales: Mapping[str, MatrixScales],
    on_bytes: Callable[[int, int], None],
) -> int:
    """Writes FP8 for the matrices named in `scales`, and copies all others; the bytes of tensors.

    on_bytes is told (done, total).
    """
    made: dict[str, _Made] = {}
    files: dict[str, list[Declared]] = {}
    for info in reader.tensors.values():
        for declared, pieces in _tensors(reader, info, scheme, scales):
            made[declared.name] = pieces
            files.setdefault(info.file, []).append(declared)
    if len(files) == 1:  # no index leads to it by another name
        files = {SINGLE: next(iter(files.values()))}
    shards = [Shard(file=file, tensors=tuple(tensors)) for file, tensors in files.items()]
    write_shards(folder, shards, lambda declared: _bytes(made[declared.name]), on_bytes)
    return sum(shard.num_bytes for shard in shards)


def _tensors(
    reader: CheckpointReader,
    info: TensorInfo,
    scheme: Scheme,
    scales: Mapping[str, MatrixScales],
) -> Iterator[tuple[Declared, _Made]]:
    """What one tensor of the source becomes."""
    name, _, kind = info.name.rpartition(".")
    if kind != "weight" or name not in scales:
        declared = Declared(name=info.name, dtype=type_name(info), shape=info.shape)
        yield declared, lambda: tensor_pieces(reader, info.name)
        return
    found, (rows, columns) = scales[name], info.shape
    made: list[_Made] = [lambda: _codes(reader, info.name, found.weight)]
    made += [lambda: iter([found.weight])]
    if found.inputs is not None:
        stored = found.inputs
        made += [lambda: iter([stored])]
    declared_all = scheme.layout.declare(name, rows, columns, type_name(info))
    yield from zip(declared_all, made, strict=True)
    if scheme.zero_points:
        zeros = torch.zeros((rows, 1), dtype=torch.float8_e4m3fn)
        shape = tuple(zeros.shape)
        yield Declared(name=f"{name}.zeros", dtype="F8_E4M3", shape=shape), lambda: iter([zeros])


def _codes(reader: CheckpointReader, name: str, scale: torch.Tensor) -> Iterator[torch.Tensor]:
    """scale: as it is stored, so that its own rounding is made up for."""
    wide, first = scale.float(), 0
    for piece in tensor_pieces(reader, name):
        rows = wide if wide.numel() == 1 else wide[first : first + len(piece)]
        yield to_e4m3(piece.float(), rows)
        first += len(piece)


def _bytes(made: _Made) -> Pieces:
    for piece in made():
        yield piece.contiguous().reshape(-1).view(torch.uint8).numpy()
