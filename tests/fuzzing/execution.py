"""One checkpoint written down and given to all who read such folders.

A rank loads it, but for the kernels; the front looks whether it can be served, and fingerprints it;
`octavo inspect` describes it.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from octavo.errors import OctavoError
from octavo.fingerprint import TOKENIZER_FILES, checkpoint_fingerprint, tokenizer_fingerprint
from services.worker.checkpoint.dialects import choose_dialect
from services.worker.checkpoint.part_reader import read_matrix
from services.worker.checkpoint.reader import CheckpointReader
from services.worker.checkpoint.weights import Weights
from services.worker.fp8_matrix import Fp8Matrix
from services.worker.front.preflight import check_folder, plan_kv_cache
from services.worker.held_weights import NumericChoices
from services.worker.kernels.reference import ReferenceKernels
from services.worker.model_config import ModelFiles
from services.worker.models import build_decoder, find_model
from services.worker.tools.inspect.devices import GPU_80_GB, Devices
from services.worker.tools.inspect.inspected import inspect_folder
from services.worker.tools.inspect.report import as_json, lines_of
from tests.fuzzing.mutations import NESTED
from tests.fuzzing.seeds import Case, Special

LIMIT_S = 5
_DEPTHS = (50, 800, 100_000)  # of the first three nested values of a file
_CPU = torch.device("cpu")
MACHINE = Devices(name="a machine", memory_bytes=2**36, is_cpu=True)


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
    """Loads the case; what was refused, or None. Raises what is a finding, of any reader."""
    write_case(case, folder)
    message = _refusal(lambda: _load(case, folder))
    for read in (_preflight, _fingerprint, _inspect):
        _refusal(functools.partial(read, folder))
    return message


def _refusal(read: Callable[[], None]) -> str | None:
    """What `read` says of the folder; None where nothing is wrong with it."""
    try:
        with _time_limit():
            read()
    except OctavoError as error:
        message = error.message
    else:
        return None
    assert "\n" not in message, message
    assert len(message) < 2000, "a message of a page"
    return message


def _preflight(folder: Path) -> None:
    check_folder(folder)
    plan_kv_cache(folder, NumericChoices(), wanted_bytes=None, available=2**40)


def _fingerprint(folder: Path) -> None:
    """Only what passed is fingerprinted: a pipe would be read for ever."""
    check_folder(folder)
    checkpoint_fingerprint(folder)
    tokenizer_fingerprint(folder)


def _inspect(folder: Path) -> None:
    found = inspect_folder(folder, [GPU_80_GB, MACHINE], [1, 2], NumericChoices())
    lines = [*lines_of(found), json.dumps(as_json(found))]
    assert all(line.isprintable() for line in lines), lines


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
    (folder / TOKENIZER_FILES[0]).write_text("{}")  # nobody here looks into it
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
        _put(folder / name, content)


def _put(path: Path, content: bytes | Special | None) -> None:
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == Special.FOLDER:
        path.mkdir()
    elif content == Special.PIPE:
        os.mkfifo(path)
    elif content == Special.LINK_TO_NOTHING:
        path.symlink_to("nothing")


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
