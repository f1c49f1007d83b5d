"""The new folder: built beside its place, moved there when it is whole."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octavo.errors import AlreadyExistsError, FailedPreconditionError
from services.worker.stored_tensors import INDEX
from services.worker.tools.prepare.model_folder import STAMP_NAME

_COPIED = (".json", ".jinja", ".model", ".tiktoken", ".txt")
_TERMS = ("license", "notice", "use_policy")
# Written anew, or true of the source alone.
_LEFT_OUT = ("config.json", "hf_quant_config.json", INDEX, STAMP_NAME)

_STAGED = ("built", "scratch")  # what a Staging's folder holds


@dataclass(frozen=True, kw_only=True, slots=True)
class Staging:
    """Beside the destination; gone when the work ends, however it does."""

    built: Path  # becomes the destination
    scratch: Path


def check_destination(source: Path, destination: Path, *, overwrite: bool) -> None:
    """Raises AlreadyExistsError for a destination that may not be written.

    Only a model's folder is ever replaced, and never one that the source is in.
    """
    if not destination.exists() or _is_empty(destination):
        return
    if source.resolve().is_relative_to(destination.resolve()):
        raise _exists(f"{destination} holds the source {source}; name another folder")
    if not overwrite:
        raise _exists(f"{destination} exists; --overwrite replaces it")
    if not (destination / "config.json").is_file():
        raise _exists(f"{destination} is no model's folder, and is not replaced")


@contextlib.contextmanager
def staged(destination: Path) -> Iterator[Staging]:
    """Moves what was built to `destination` at the end, unless the work failed.

    What a killed run left beside `destination` goes first. Raises AlreadyExistsError while another
    run writes to it, FailedPreconditionError for what the disk refuses.
    """
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        with _owned(destination.with_name(f".quantizing-{destination.name}")) as folder:
            built, scratch = (folder / name for name in _STAGED)
            built.mkdir()
            scratch.mkdir()
            staging = Staging(built=built, scratch=scratch)
            yield staging
            if destination.exists():
                destination.replace(staging.scratch / "replaced")
            staging.built.replace(destination)
    except OSError as error:
        what = f"{error.filename or destination}: {error.strerror or error}"
        raise FailedPreconditionError(f"{what}.", reason="NOT_WRITTEN") from error


@contextlib.contextmanager
def _owned(folder: Path) -> Iterator[Path]:
    """Empty, and gone at the end; locked meanwhile. The kernel drops the lock with the process."""
    folder.mkdir(exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _exists(f"{folder} is being written by another run") from None
        _clear(folder)
        try:
            yield folder
        finally:
            _clear(folder)
            folder.rmdir()
    finally:
        os.close(descriptor)


def _clear(folder: Path) -> None:
    for name in _STAGED:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder / name)


def write_documents(folder: Path, source: Path, config: Mapping[str, Any]) -> None:
    """config.json, and the source's other files: tokenizer, template, generation, terms of use."""
    text = json.dumps(config, indent=2, ensure_ascii=False)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
    for path in sorted(source.iterdir()):
        if path.is_file() and _is_copied(path.name):
            shutil.copyfile(path, folder / path.name)


def _is_copied(name: str) -> bool:
    """Never a pickle, and no weights in other formats."""
    lower = name.lower()
    is_document = lower.endswith(_COPIED) and not lower.endswith(".index.json")
    return name not in _LEFT_OUT and (is_document or lower.startswith(_TERMS))


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def _exists(what: str) -> AlreadyExistsError:
    return AlreadyExistsError(f"{what}.", reason="DST_EXISTS")
