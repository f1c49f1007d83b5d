"""Valid checkpoints as plain data, ready to be changed."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from tests.services.worker import tiny_llama

FIXTURES = Path(__file__).parent.parent / "fixtures" / "checkpoints"
_LATER_LAYER = "model.layers.1."  # one layer says what two say, in half the time


class Special(Enum):
    """What may lie where a file should."""

    FOLDER = "a folder"
    PIPE = "a pipe that nobody writes to"
    LINK_TO_NOTHING = "a symlink to nothing"


@dataclass
class StoredTensor:
    dtype: str
    shape: list[int]
    data: bytes


@dataclass
class Case:
    """A checkpoint: what its JSON files say, and its tensors by shard."""

    json_files: dict[str, Any]
    shards: list[dict[str, StoredTensor]]
    has_index: bool
    # Made after the files are written, by name: what replaces them; None: a missing file.
    replaced: dict[str, bytes | Special | None] = field(default_factory=dict)
    headers: dict[str, Any] = field(default_factory=dict)  # by shard: keys that lie
    index: dict[str, Any] = field(default_factory=dict)  # entries of the weight map that lie
    quantise: bool = False
    rank: int = 0
    size: int = 1

    def copy(self) -> Case:
        return copy.deepcopy(self)


def load_seeds(folder: Path) -> dict[str, Case]:
    """Every seed by its name; `folder` is for files that are made on the way."""
    seeds = {
        path.name: _read_case(path)
        for path in sorted(FIXTURES.iterdir())
        if (path / "golden.json").exists()
    }
    seeds["unquantised"] = _read_case(tiny_llama.write(folder))
    seeds["tied"] = _read_case(tiny_llama.write(folder))
    seeds["tied"].json_files["config.json"]["tie_word_embeddings"] = True
    shard = seeds["tied"].shards[0]
    shard["lm_head.weight"] = shard["model.embed_tokens.weight"]
    seeds["biases"] = _with_biases(_read_case(tiny_llama.write(folder)))
    return seeds


def _with_biases(case: Case) -> Case:
    case.json_files["config.json"]["attention_bias"] = True
    for name, tensor in list(case.shards[0].items()):
        if ".self_attn." in name:
            bias = StoredTensor(tensor.dtype, tensor.shape[:1], tensor.data[: 2 * tensor.shape[0]])
            case.shards[0][name.replace(".weight", ".bias")] = bias
    return case


def _read_case(folder: Path) -> Case:
    names = [name for name in ("config.json", "hf_quant_config.json") if (folder / name).is_file()]
    json_files = {name: json.loads((folder / name).read_text()) for name in names}
    json_files["config.json"]["num_hidden_layers"] = 1
    shards = [_read_shard(path.read_bytes()) for path in sorted(folder.glob("*.safetensors"))]
    return Case(json_files=json_files, shards=shards, has_index=len(shards) > 1)


def _read_shard(content: bytes) -> dict[str, StoredTensor]:
    length = int.from_bytes(content[:8], "little")
    header: Mapping[str, Any] = json.loads(content[8 : 8 + length])
    data = memoryview(content)[8 + length :]
    return {
        name: StoredTensor(
            dtype=entry["dtype"],
            shape=entry["shape"],
            data=bytes(data[entry["data_offsets"][0] : entry["data_offsets"][1]]),
        )
        for name, entry in header.items()
        if name != "__metadata__" and not name.startswith(_LATER_LAYER)
    }
