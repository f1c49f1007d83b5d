"""From what a GGUF file holds to a checkpoint's folder."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer

from services.worker.tools.prepare.convert import convert, unquantised
from services.worker.tools.prepare.gguf import Gguf
from services.worker.tools.prepare.model_config_json import config_json, generation_config_json
from services.worker.tools.prepare.model_folder import write_model
from services.worker.tools.prepare.progress import OnProgress, Progress
from services.worker.tools.prepare.tokenizer_json import (
    special_tokens_map,
    tokenizer_config,
    tokenizer_json,
)


def write_gguf(
    gguf: Gguf, folder: Path, recipe: str, on_progress: OnProgress, *, fp8: bool
) -> None:
    """Writes the checkpoint of `gguf`, in FP8 or in bf16, to the empty `folder`."""
    metadata = gguf.metadata
    vocabulary = tokenizer_json(metadata)
    tokenizer = Tokenizer.from_str(json.dumps(vocabulary))
    tensors = convert(gguf, tokenizer, on_progress) if fp8 else unquantised(gguf, on_progress)
    on_progress(Progress(step="writing the checkpoint"))
    documents = {
        "config.json": config_json(metadata, fp8=fp8)
        | {"tie_word_embeddings": "output.weight" not in gguf.names},
        "generation_config.json": generation_config_json(metadata),
        "special_tokens_map.json": special_tokens_map(metadata),
        "tokenizer.json": vocabulary,
        "tokenizer_config.json": tokenizer_config(metadata),
    }
    write_model(folder, tensors, documents, recipe)
