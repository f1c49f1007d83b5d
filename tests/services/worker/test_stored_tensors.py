"""Tensors by their headers: what torch's reader finds, without reading it."""

from __future__ import annotations

from pathlib import Path

import pytest

from octavo.errors import FailedPreconditionError
from services.worker.checkpoint.reader import CheckpointReader
from services.worker.stored_tensors import read_stored_tensors
from tests.services.worker import tiny_llama


def test_all_files_of_a_folder_are_read(tmp_path: Path) -> None:
    folder = tiny_llama.write_sharded(tmp_path)
    found = {tensor.name: tensor for tensor in read_stored_tensors(folder)}
    expected = CheckpointReader(folder).tensors
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert (tensor.shape, tensor.num_bytes) == (expected[name].shape, expected[name].num_bytes)
        assert tensor.dtype == "BF16"


def test_what_has_no_shape_is_named(tmp_path: Path) -> None:
    header = b'{"a": {"dtype": "BF16", "data_offsets": [0, 2]}}'
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"..")
    with pytest.raises(FailedPreconditionError, match=r"model\.safetensors.* tensor 'a'"):
        read_stored_tensors(tmp_path)
