"""The folder of a synthesized model: its files, and the room that they need."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octavo.errors import AlreadyExistsError, ResourceExhaustedError
from octavo.status_line import StatusLine
from services.worker.tools.layouts import Layout
from services.worker.tools.prepare.model_config_json import config_json, generation_config_json
from services.worker.tools.prepare.model_folder import (
    is_complete,
    is_ours,
    write_documents,
    write_stamp,
)
from services.worker.tools.prepare.tokenizer_json import (
    special_tokens_map,
    tokenizer_config,
    tokenizer_json,
)
from services.worker.tools.shards import Shard, plan_shards, write_shards, write_sparse_shards
from services.worker.tools.synthesize.metadata import metadata_of
from services.worker.tools.synthesize.shapes import ModelShape
from services.worker.tools.synthesize.weights import RandomTensors, declare_tensors

_RECIPE_VERSION = 2  # counts what is written for the same flags
_TORCH_TYPES = {"BF16": "bfloat16", "F16": "float16"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """What decides every byte."""

    shape_name: str
    shape: ModelShape
    dialect: str
    layout: Layout
    seed: int
    sparse: bool

    @property
    def stamp(self) -> str:
        """The same for the same bytes."""
        how = "sparse" if self.sparse else f"seed {self.seed}"
        return (
            f"synthesize {_RECIPE_VERSION}: {self.shape_name}, {self.shape.num_layers} layers, "
            f"{self.dialect}, {how}"
        )


def synthesize(folder: Path, recipe: Recipe, line: StatusLine) -> None:
    """Writes the model, unless `folder` holds it. Raises OctavoError where it cannot."""
    if is_complete(folder, recipe.stamp):
        return
    if folder.exists() and any(folder.iterdir()) and not is_ours(folder):
        raise AlreadyExistsError(
            f"{folder} exists and holds something else; name another folder.", reason="DST_EXISTS"
        )
    tensors = declare_tensors(recipe.shape, recipe.layout)
    shards = plan_shards(tensors)
    folder.mkdir(parents=True, exist_ok=True)
    _clear(folder)
    write_stamp(folder, "unfinished")  # ours, so that another run may go on after an interruption
    if recipe.sparse:
        write_sparse_shards(folder, shards)
    else:
        require_room(folder, sum(shard.num_bytes for shard in shards))
        _write(folder, shards, RandomTensors(tensors, recipe.layout, recipe.seed), line)
    write_documents(folder, _documents(recipe))
    write_stamp(folder, recipe.stamp)


def require_room(folder: Path, num_bytes: int) -> None:
    """Raises ResourceExhaustedError where the disk of `folder` has less."""
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise ResourceExhaustedError(
            f"{folder} has {free / 1e9:.1f} GB free; {num_bytes / 1e9:.1f} GB are needed.",
            reason="DISK_FULL",
        )


def _clear(folder: Path) -> None:
    """Another recipe's files: its shards may be more than ours."""
    for path in folder.iterdir():
        path.unlink()


def _write(folder: Path, shards: list[Shard], values: RandomTensors, line: StatusLine) -> None:
    write_shards(
        folder,
        shards,
        values.pieces,
        lambda done, total: line.show(
            "writing", f"{done / 1e6:,.0f} / {total / 1e6:,.0f} MB", is_last=done == total
        ),
    )


def _documents(recipe: Recipe) -> dict[str, dict[str, Any]]:
    metadata = metadata_of(recipe.shape)
    config = config_json(metadata, fp8=False) | {
        "tie_word_embeddings": recipe.shape.tied,
        "torch_dtype": _TORCH_TYPES[recipe.shape.dtype],
        **recipe.layout.config,
    }
    documents = {
        "config.json": config,
        "generation_config.json": generation_config_json(metadata),
        "special_tokens_map.json": special_tokens_map(metadata),
        "tokenizer.json": tokenizer_json(metadata),
        "tokenizer_config.json": tokenizer_config(metadata),
    }
    if recipe.layout.quant_file is not None:
        documents["hf_quant_config.json"] = dict(recipe.layout.quant_file)
    return documents
