"""A GGUF file as a source: converted to a folder in bf16 first.

tools/prepare knows one family of them, that of the default model: Llama's network with SmolLM's
tokenizer. Everything else is refused.
"""

from __future__ import annotations

from pathlib import Path

from octavo.errors import InvalidArgumentError
from octavo.status_line import StatusLine
from services.worker.tools.prepare.errors import PrepareError
from services.worker.tools.prepare.gguf import Gguf
from services.worker.tools.prepare.gguf_folder import write_gguf
from services.worker.tools.prepare.progress import OnProgress, show_on

_ARCHITECTURE = "llama"
# What is converted; of layers, the loader misses what is not there.
_LAYER = "blk."
_KNOWN = ("token_embd.weight", "output_norm.weight", "output.weight")


def folder_of(source: Path, scratch: Path, line: StatusLine) -> Path:
    """`source` itself, or the empty `scratch`, filled from the GGUF file.

    Raises InvalidArgumentError for a file that is not GGUF, or of another family.
    """
    if not source.is_file():
        return source
    try:
        _convert(source, scratch, show_on(line))
    except PrepareError as error:
        raise _refused(source, str(error)) from error
    except KeyError as error:
        raise _refused(source, f"the GGUF file lacks {error}") from error
    except (ValueError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise _refused(source, f"the GGUF file is malformed: {error}") from error
    return scratch


def _convert(source: Path, folder: Path, on_progress: OnProgress) -> None:
    gguf = Gguf(source.read_bytes())
    architecture = gguf.metadata["general.architecture"]
    if architecture != _ARCHITECTURE:
        raise PrepareError(f"its architecture is {architecture!r:.40}; known: {_ARCHITECTURE!r}")
    odd = [name for name in gguf.names if not name.startswith(_LAYER) and name not in _KNOWN]
    if odd:
        raise PrepareError(f"tensor {odd[0]!r:.80} is not one that this model reads")
    write_gguf(gguf, folder, f"gguf {source.name}", on_progress, fp8=False)


def _refused(source: Path, why: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"{source}: {why}.", reason="CHECKPOINT_UNSUPPORTED")
