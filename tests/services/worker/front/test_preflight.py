"""What is refused before a rank starts."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from octavo.errors import FailedPreconditionError, ResourceExhaustedError
from services.worker.front.preflight import (
    available_memory,
    check_folder,
    plan_kv_cache,
    weight_bytes,
)

MIB = 1024**2


def write_checkpoint(folder: Path, **tensors: tuple[str, int]) -> Path:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (dtype, size) in tensors.items():
        header[name] = {"dtype": dtype, "shape": [size], "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    (folder / "config.json").write_text("{}")
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
    write_checkpoint(tmp_path, a=("F8_E4M3", 100), b=("I8", 10), c=("BF16", 20), d=("F32", 40))
    assert weight_bytes(tmp_path, dtype="auto") == 200 + 20 + 20 + 40
    assert weight_bytes(tmp_path, dtype="float32") == 400 + 40 + 40 + 40


def test_the_cache_takes_a_quarter_of_what_is_free_or_what_is_asked(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, a=("BF16", 4 * MIB))
    quarter = plan_kv_cache(tmp_path, dtype="auto", wanted_bytes=None, available=104 * MIB)
    assert quarter == 25 * MIB
    assert plan_kv_cache(tmp_path, dtype="auto", wanted_bytes=7, available=104 * MIB) == 7


@pytest.mark.parametrize("wanted", [None, 2048 * MIB])
def test_what_cannot_fit_is_refused_with_the_arithmetic(tmp_path: Path, wanted: int | None) -> None:
    write_checkpoint(tmp_path, a=("F8_E4M3", 600 * MIB))
    with pytest.raises(ResourceExhaustedError, match=r"1\.17 GiB for weights .* 1\.00 GiB are"):
        plan_kv_cache(tmp_path, dtype="auto", wanted_bytes=wanted, available=1024 * MIB)


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
    with pytest.raises(FailedPreconditionError, match=r"model\.safetensors"):
        weight_bytes(tmp_path, dtype="auto")


def test_there_is_memory_here() -> None:
    assert 0 < available_memory() < 2**63
