"""What is written is safetensors: another library reads it, and sizes are the published ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from services.worker.checkpoint.reader import CheckpointReader
from services.worker.tools.shards import Declared, plan_shards, write_shards, write_sparse_shards
from tests.services.worker import llama2

TENSORS = [
    Declared(name="a.weight", dtype="I8", shape=(3, 5)),
    Declared(name="a.scale", dtype="F32", shape=()),
    Declared(name="b.weight", dtype="BF16", shape=(2, 4)),
    Declared(name="c.weight", dtype="F8_E4M3", shape=(7,)),
]


def declared_llama2(size: str) -> list[Declared]:
    """In the order of a state dict."""
    found = {tensor.name: tensor for tensor in llama2.tensors(size)}
    head = found.pop("lm_head.weight"), found.pop("model.norm.weight")
    ordered = [*found.values(), head[1], head[0]]
    return [Declared(name=t.name, dtype=t.dtype, shape=t.shape) for t in ordered]


def test_another_library_reads_what_is_written(tmp_path: Path) -> None:
    values = {t.name: np.arange(t.num_bytes, dtype=np.uint8) for t in TENSORS}
    told: list[tuple[int, int]] = []
    write_shards(
        tmp_path,
        plan_shards(TENSORS),
        lambda tensor: (values[tensor.name][:2], values[tensor.name][2:]),
        lambda done, total: told.append((done, total)),
    )
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
        for tensor in TENSORS:
            read = file.get_tensor(tensor.name)
            assert tuple(read.shape) == tensor.shape
            content = read.reshape(-1).view(torch.uint8)
            assert content.tolist() == values[tensor.name].tolist()
    assert told[-1] == (42, 42)
    assert not (tmp_path / "model.safetensors.index.json").exists()


def test_shards_have_an_index_and_a_size(tmp_path: Path) -> None:
    shards = plan_shards(TENSORS, limit=20)
    assert [[t.name for t in shard.tensors] for shard in shards] == [
        ["a.weight", "a.scale"],
        ["b.weight"],
        ["c.weight"],
    ]
    write_sparse_shards(tmp_path, shards)
    reader = CheckpointReader(tmp_path)
    assert {info.file for info in reader.tensors.values()} == {shard.file for shard in shards}
    assert not reader.read("b.weight").float().any()


def test_a_tensor_larger_than_a_shard_has_one_of_its_own() -> None:
    shards = plan_shards(TENSORS, limit=1)
    assert [len(shard.tensors) for shard in shards] == [1, 1, 1, 1]


def test_llama_2_70b_has_the_published_files() -> None:
    shards = plan_shards(declared_llama2("70b"))
    published = [9.937, 9.798, 9.966, 9.949, 9.798, 9.882, 9.647, 0.524]
    assert [shard.num_bytes / 1e9 for shard in shards] == pytest.approx(published, abs=6e-4)
    assert [tensor.name for tensor in shards[-1].tensors] == ["lm_head.weight"]
    assert shards[0].file == "model-00001-of-00008.safetensors"
