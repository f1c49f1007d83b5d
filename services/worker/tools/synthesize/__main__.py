"""`python -m services.worker.tools.synthesize --shape default --output FOLDER`.

Prints the folder. One that holds the same model already is left as it is.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from services.worker.tools.prepare.model_config_json import config_json, generation_config_json
from services.worker.tools.prepare.model_folder import is_complete, write_model
from services.worker.tools.prepare.tokenizer_json import (
    special_tokens_map,
    tokenizer_config,
    tokenizer_json,
)
from services.worker.tools.synthesize.metadata import metadata_of
from services.worker.tools.synthesize.shapes import SHAPES
from services.worker.tools.synthesize.weights import random_tensors

_PROG = "synthesize"
_RECIPE_VERSION = 1  # counts what is written for the same flags


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the model; the exit status."""
    parser = argparse.ArgumentParser(
        prog=_PROG, description="Writes a checkpoint of random FP8 weights."
    )
    parser.add_argument("--shape", choices=list(SHAPES), default="default")
    parser.add_argument("--output", type=Path, metavar="DIR", required=True)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    recipe = f"{_PROG} {_RECIPE_VERSION}: {arguments.shape}, seed {arguments.seed}"
    if not is_complete(arguments.output, recipe):
        _write(arguments.output, arguments.shape, arguments.seed, recipe)
    print(arguments.output)
    return 0


def _write(folder: Path, shape_name: str, seed: int, recipe: str) -> None:
    shape = SHAPES[shape_name]
    metadata = metadata_of(shape)
    folder.mkdir(parents=True, exist_ok=True)
    documents = {
        "config.json": config_json(metadata),
        "generation_config.json": generation_config_json(metadata),
        "special_tokens_map.json": special_tokens_map(metadata),
        "tokenizer.json": tokenizer_json(metadata),
        "tokenizer_config.json": tokenizer_config(metadata),
    }
    write_model(folder, random_tensors(shape, seed), documents, recipe)


if __name__ == "__main__":
    sys.exit(main())
