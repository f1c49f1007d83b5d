"""What is odd about a checkpoint: what will be refused, ignored, or answered differently."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from octavo.fingerprint import TOKENIZER_FILES
from services.worker.model_config import served_model_types
from services.worker.stored_tensors import INDEX, StoredTensor, read_index, refused_pickle
from services.worker.tools.inspect.dialect import Dialect


def warnings_of(
    folder: Path,
    config: Mapping[str, Any],
    tensors: Mapping[str, StoredTensor],
    dialect: Dialect,
) -> Iterator[str]:
    """One sentence each."""
    yield from _architecture(config)
    yield from _files(folder, tensors)
    if dialect.refusal is not None:
        yield f"it will be refused: {dialect.refusal}"
    elif dialect.num_quantised == 0 and dialect.family != "unquantised":
        yield f"quantization_config names {dialect.family!r}, but no matrix is in FP8"
    if config.get("tie_word_embeddings") and "lm_head.weight" in tensors:
        yield "the embeddings are tied, and lm_head.weight is stored too"
    if (folder / "tokenizer_config.json").is_file() and not _has_template(folder):
        yield "there is no chat template: prompts work, chats are refused"


def _architecture(config: Mapping[str, Any]) -> Iterator[str]:
    if config.get("model_type") not in served_model_types():
        yield f"model_type {config.get('model_type')!r:.80} is not served"


def _files(folder: Path, tensors: Mapping[str, StoredTensor]) -> Iterator[str]:
    if not any((folder / name).is_file() for name in TOKENIZER_FILES[:2]):
        yield f"there is neither {TOKENIZER_FILES[0]} nor {TOKENIZER_FILES[1]}"
    if (pickle := refused_pickle(folder)) is not None:
        yield pickle
    if (folder / INDEX).is_file():
        yield from _index(folder, tensors)


def _index(folder: Path, tensors: Mapping[str, StoredTensor]) -> Iterator[str]:
    shards = read_index(folder)
    for file in sorted(shards):
        if not (folder / file).is_file():
            yield f"{INDEX} names {file!r}, which does not exist"
    missing = {name for names in shards.values() for name in names} - tensors.keys()
    if missing:
        yield f"{len(missing)} tensors of {INDEX} are in no file, {min(missing)!r:.200} among them"


def _has_template(folder: Path) -> bool:
    if any((folder / f"chat_template.{kind}").is_file() for kind in ("jinja", "json")):
        return True
    try:
        config = json.loads((folder / "tokenizer_config.json").read_bytes())
    except (ValueError, RecursionError):
        return False
    return isinstance(config, dict) and "chat_template" in config
