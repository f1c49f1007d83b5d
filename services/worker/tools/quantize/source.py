"""The 16-bit checkpoint that is quantised: a folder, or what a GGUF file holds."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from octavo.errors import InvalidArgumentError, NotFoundError
from octavo.status_line import StatusLine
from services.worker.tools.prepare.convert import unquantised
from services.worker.tools.prepare.errors import PrepareError
from services.worker.tools.prepare.gguf import Gguf
from services.worker.tools.prepare.model_config_json import config_json, generation_config_json
from services.worker.tools.prepare.model_folder import write_model
from services.worker.tools.prepare.progress import show_on
from services.worker.tools.prepare.tokenizer_json import (
    special_tokens_map,
    tokenizer_config,
    tokenizer_json,
)


@contextlib.contextmanager
def source_folder(source: Path, beside: Path, line: StatusLine) -> Iterator[Path]:
    """`source`, or for a GGUF file a folder in bf16 that lies beside `beside` for as long.

    Raises OctavoError where it is neither, or a GGUF that is not understood.
    """
    if source.is_dir():
        yield source
    elif source.suffix == ".gguf" and source.is_file():
        beside.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".gguf-", dir=beside.parent) as folder:
            _expand(source, Path(folder), line)
            yield Path(folder)
    else:
        raise NotFoundError(
            f"{source} is neither a folder nor a .gguf file.", reason="CHECKPOINT_FILE_MISSING"
        )


def _expand(source: Path, folder: Path, line: StatusLine) -> None:
    try:
        gguf = Gguf(source.read_bytes())
        metadata = gguf.metadata
        documents = {
            "config.json": config_json(metadata, fp8=False)
            | {"tie_word_embeddings": "output.weight" not in gguf.names},
            "generation_config.json": generation_config_json(metadata),
            "special_tokens_map.json": special_tokens_map(metadata),
            "tokenizer.json": tokenizer_json(metadata),
            "tokenizer_config.json": tokenizer_config(metadata),
        }
        tensors = unquantised(gguf, show_on(line))
    except PrepareError as error:
        raise InvalidArgumentError(f"{source}: {error}.", reason="GGUF_UNSUPPORTED") from error
    except KeyError as error:
        what = f"holds no {json.dumps(error.args[0])}, which a Llama has"
        raise InvalidArgumentError(f"{source} {what}.", reason="GGUF_UNSUPPORTED") from error
    write_model(folder, tensors, documents, "gguf")
