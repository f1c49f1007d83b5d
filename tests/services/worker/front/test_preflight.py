"""What is refused before a rank starts."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from octavo.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    ResourceExhaustedError,
)
from services.worker.front.preflight import (
    available_memory,
    check_folder,
    plan_kv_cache,
    weight_bytes,
)
from services.worker.held_weights import NumericChoices
from services.worker.tools.shards import Declared, plan_shards, write_sparse_shards
from tests.services.worker import tiny_llama

MIB = 1024**2
REFERENCE = NumericChoices(kernels="reference")


def write_checkpoint(folder: Path, **matrices: tuple[str, list[int]]) -> Path:
    """The files of a model whose `matrices` have these dtypes and shapes, and holes for numbers."""
    write_sparse_shards(
        folder,
        plan_shards(
            [
                Declared(name=f"{name}.weight", dtype=dtype, shape=tuple(shape))
                for name, (dtype, shape) in matrices.items()
            ]
        ),
    )
    (folder / "config.json").write_text(json.dumps(tiny_llama.CONFIG))
    (folder / "tokenizer.json").write_text("{}")
    return folder


def test_a_complete_folder_passes(tmp_path: Path) -> None:
    check_folder(write_checkpoint(tmp_path))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    (write_checkpoint(tmp_path) / name).unlink()
    with pytest.raises(FailedPreconditionError, match=name.removeprefix("model")):
        check_folder(tmp_path)


def test_a_pickle_instead_of_weights_is_named(tmp_path: Path) -> None:
    (write_checkpoint(tmp_path) / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(FailedPreconditionError, match=r"pytorch_model\.bin is a pickle"):
        check_folder(tmp_path)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "broken link", "loop"])
def test_weights_that_are_no_file_are_named(tmp_path: Path, kind: str) -> None:
    path = write_checkpoint(tmp_path) / "model.safetensors"
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        targets = {"device": "/dev/zero", "broken link": "nowhere", "loop": path.name}
        path.symlink_to(targets[kind])
    with pytest.raises(FailedPreconditionError, match=r"model\.safetensors, which is no file"):
        check_folder(tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FailedPreconditionError, match="nowhere"):
        check_folder(tmp_path / "nowhere")


def test_weights_count_as_they_are_once_loaded(tmp_path: Path) -> None:
    """tests/services/worker/test_held_weights.py compares with models that are loaded."""
    write_checkpoint(tmp_path, a=("F8_E4M3", [20, 5]), b=("BF16", [2, 5]))
    assert weight_bytes(tmp_path, REFERENCE) == 2 * 100 + 2 * 10
    as_float32 = NumericChoices(kernels="reference", dtype="float32")
    assert weight_bytes(tmp_path, as_float32) == 4 * 100 + 4 * 10


def test_an_architecture_that_is_not_served_is_refused_by_name(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "mamba"}')
    with pytest.raises(InvalidArgumentError, match=r"model_type is 'mamba'; it must be one of \["):
        weight_bytes(tmp_path, REFERENCE)


def test_the_cache_takes_a_quarter_of_what_is_free_or_what_is_asked(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, a=("BF16", [1024, 2048]))
    quarter = plan_kv_cache(tmp_path, REFERENCE, wanted_bytes=None, available=104 * MIB)
    assert quarter == 25 * MIB
    assert plan_kv_cache(tmp_path, REFERENCE, wanted_bytes=7, available=104 * MIB) == 7


@pytest.mark.parametrize("wanted", [None, 2048 * MIB])
def test_what_cannot_fit_is_refused_with_the_arithmetic(tmp_path: Path, wanted: int | None) -> None:
    write_checkpoint(tmp_path, a=("F8_E4M3", [1024, 600 * 1024]))
    with pytest.raises(ResourceExhaustedError, match=r"1\.17 GiB for weights .* 1\.00 GiB are"):
        plan_kv_cache(tmp_path, REFERENCE, wanted_bytes=wanted, available=1024 * MIB)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        (2**63).to_bytes(8, "little"),
        (4).to_bytes(8, "little") + b"[1]]",
        (2).to_bytes(8, "little") + b"[]",
        (14).to_bytes(8, "little") + b'{"a": {"x":1}}',
        (65).to_bytes(8, "little")
        + b'{"a": {"dtype": "BF16", "shape": [1e400], "data_offsets": [0,2]}}',
        (68).to_bytes(8, "little")
        + b'{"a": {"dtype": "BF16", "shape": [1], "data_offsets": [0.5, 1e400]}}',
    ],
)
def test_a_malformed_file_is_named(tmp_path: Path, data: bytes) -> None:
    (write_checkpoint(tmp_path) / "model.safetensors").write_bytes(data)
    with pytest.raises(InvalidArgumentError, match=r"^model\.safetensors: "):
        weight_bytes(tmp_path, REFERENCE)


def test_what_a_rank_would_refuse_is_refused_before_it_starts(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, a=("BF16", [2, 5])) / "model.safetensors"
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(InvalidArgumentError, match=r"tensor 'a\.weight' is cut off: 1 bytes are"):
        weight_bytes(tmp_path, REFERENCE)


def test_there_is_memory_here() -> None:
    assert 0 < available_memory() < 2**63
