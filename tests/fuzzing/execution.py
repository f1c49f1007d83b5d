"""One checkpoint written down and loaded as a rank loads it, but for the kernels."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from octavo.errors import OctavoError
from services.worker.checkpoint.dialects import choose_dialect
from services.worker.checkpoint.part_reader import read_matrix
from services.worker.checkpoint.reader import CheckpointReader
from services.worker.checkpoint.weights import Weights
from services.worker.fp8_matrix import Fp8Matrix
from services.worker.kernels.reference import ReferenceKernels
from services.worker.model_config import ModelFiles
from services.worker.models import build_decoder, find_model
from tests.fuzzing.mutations import NESTED
from tests.fuzzing.seeds import Case

LIMIT_S = 5
_DEPTHS = (50, 800, 100_000)  # of the first three nested values of a file
_CPU = torch.device("cpu")


class HangError(BaseException):
    """A load that took longer than LIMIT_S."""


class PackedNothing(ReferenceKernels):
    """Kernels that only look at the matrices: packing them takes longer than loading."""

    def pack_linear(self, weight: Any, bias: torch.Tensor | None = None) -> Any:
        if isinstance(weight, Fp8Matrix):
            assert weight.scale.shape == tuple(weight.shape)
            rows = weight.scale.of_rows(0, min(3, weight.shape[0]))
            assert (rows > 0).all()
        return None


def execute(case: Case, folder: Path) -> str | None:
    """Loads the case; what was refused, or None. Raises what is a finding."""
    write_case(case, folder)
    try:
        with _time_limit():
            _load(case, folder)
    except OctavoError as error:
        message = error.message
    else:
        return None
    assert "\n" not in message, message
    assert len(message) < 2000, "a message of a page"
    return message


def _load(case: Case, folder: Path) -> None:
    architecture, config = find_model(ModelFiles.read(folder))
    weights = Weights(
        CheckpointReader(folder),
        choose_dialect(config.quantization),
        dtype=torch.float32,
        device=_CPU,
        placement=architecture.PLACEMENT,
        rank=case.rank,
        size=case.size,
        quantise=case.quantise,
    )
    kernels = PackedNothing(_CPU, torch.float32)
    build_decoder(architecture, config, kernels=kernels, weights=weights)
    name = "model.layers.0.mlp.down_proj"
    read_matrix(CheckpointReader(folder), choose_dialect(config.quantization), name)


def write_case(case: Case, folder: Path) -> None:
    """The files of a case, in an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, values in case.json_files.items():
        (folder / name).write_bytes(_as_json(values))
    count = len(case.shards)
    names = (
        [f"model-{n + 1:05}-of-{count:05}.safetensors" for n in range(count)]
        if case.has_index
        else ["model.safetensors"] * count
    )
    for name, shard in zip(names, case.shards, strict=True):
        _write_shard(case, shard, folder / name)
    if case.has_index:
        weight_map = {
            tensor: name for name, shard in zip(names, case.shards, strict=True) for tensor in shard
        }
        index = {"metadata": {}, "weight_map": weight_map | case.index}
        (folder / "model.safetensors.index.json").write_bytes(_as_json(index))
    for name, content in case.replaced.items():
        (folder / name).unlink(missing_ok=True)
        if content is not None:
            (folder / name).write_bytes(content)


def _write_shard(case: Case, shard: dict[str, Any], path: Path) -> None:
    header: dict[str, Any] = {}
    place = 0
    for name, tensor in shard.items():
        end = place + len(tensor.data)
        header[name] = {
            "dtype": tensor.dtype,
            "shape": tensor.shape,
            "data_offsets": [place, end],
        }
        lie = case.headers.get(name)
        if lie is not None:
            header[name] = header[name] | lie if isinstance(lie, dict) else lie
        place = end
    text = _as_json(header)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.writelines(tensor.data for tensor in shard.values())
    if cut := case.headers.get("__cut__"):
        os.truncate(path, max(0, path.stat().st_size + cut))


def _as_json(value: Any) -> bytes:
    text = json.dumps(value)
    for depth in _DEPTHS:
        text = text.replace(json.dumps(NESTED), "[" * depth + "]" * depth, 1)
    return text.encode()


@contextmanager
def _time_limit() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
