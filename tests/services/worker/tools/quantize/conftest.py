"""A model in 16 or 32 bits with a tokenizer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from transformers import LlamaConfig

from tests.services.worker.models.oracle import SHAPE, write_random

NUM_TOKENS = 320  # of the fixtures' tokenizer: every byte, and a few more
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def add_tokenizer(folder: Path, checkpoints: Path) -> None:
    for name in TOKENIZER_FILES:
        shutil.copyfile(checkpoints / "fmo-l0" / name, folder / name)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, checkpoints: Path) -> Path:
    """A Llama in float32, random but not tiny in its steps."""
    folder = tmp_path_factory.mktemp("source")
    write_random(folder, LlamaConfig(**SHAPE | {"vocab_size": NUM_TOKENS}))
    add_tokenizer(folder, checkpoints)
    (folder / "generation_config.json").write_text(json.dumps({"temperature": 0.5}))
    return folder
