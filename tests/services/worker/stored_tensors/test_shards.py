"""Tensors by their headers: what torch's reader finds, without reading it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from octavo.errors import InvalidArgumentError, NotFoundError
from services.worker.checkpoint.reader import CheckpointReader
from services.worker.stored_tensors import find_shards, read_stored_tensors
from tests.services.worker import tiny_llama


def test_all_files_of_a_folder_are_read(tmp_path: Path) -> None:
    folder = tiny_llama.write_sharded(tmp_path)
    found = {tensor.name: tensor for tensor in read_stored_tensors(folder)}
    expected = CheckpointReader(folder).tensors
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert (tensor.shape, tensor.num_bytes) == (expected[name].shape, expected[name].num_bytes)
        assert tensor.dtype == "BF16"


@pytest.mark.parametrize("write", [tiny_llama.write, tiny_llama.write_sharded])
def test_files_that_are_not_loaded_do_not_count(
    tmp_path: Path, write: Callable[[Path], Path]
) -> None:
    folder = write(tmp_path)
    before = read_stored_tensors(folder)
    save_file({"tok_embeddings.weight": torch.ones(96, 48)}, folder / "consolidated.safetensors")
    assert read_stored_tensors(folder) == before


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"weight_map": [1]}', "[" * 100_000])
def test_a_malformed_index_is_named(tmp_path: Path, content: str) -> None:
    (tiny_llama.write_sharded(tmp_path) / "model.safetensors.index.json").write_text(content)
    with pytest.raises(InvalidArgumentError, match=r"model\.safetensors\.index\.json: is not"):
        read_stored_tensors(tmp_path)


def test_an_index_leads_nowhere_else(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tiny_llama.write(folder) / "model.safetensors").rename(tmp_path / "outside.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../outside.safetensors"}}))
    with pytest.raises(InvalidArgumentError, match=r"a \.safetensors file beside it"):
        read_stored_tensors(folder)


def test_a_shard_may_be_missing(tmp_path: Path) -> None:
    """So that what is there can be described; who loads asks find_shards."""
    folder = tiny_llama.write_sharded(tmp_path)
    (folder / "model-1.safetensors").unlink()
    assert {tensor.file for tensor in read_stored_tensors(folder)} == {"model-2.safetensors"}
    with pytest.raises(NotFoundError, match=r"model-1\.safetensors does not exist"):
        find_shards(folder)


def test_what_has_no_shape_is_named(tmp_path: Path) -> None:
    header = b'{"a": {"dtype": "BF16", "data_offsets": [0, 2]}}'
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"..")
    with pytest.raises(InvalidArgumentError, match=r"model\.safetensors: tensor 'a' has"):
        read_stored_tensors(tmp_path)


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.safetensors")  # opening it would wait for a writer
    assert read_stored_tensors(tmp_path) == []
