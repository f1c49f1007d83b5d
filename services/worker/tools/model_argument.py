"""What the tools take from a command line in the same way: a checkpoint's folder, and a text."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from octavo.errors import InvalidArgumentError, NotFoundError

ModelFolder = Annotated[Path, typer.Argument(metavar="MODEL", help="The folder of a checkpoint.")]


def read_text(path: Path) -> str:
    """The text in a file; `-` is what is piped in. Raises OctavoError naming the file."""
    if str(path) == "-":
        return sys.stdin.read()
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidArgumentError(f"{path} is no UTF-8 text: {error}.", reason="NO_TEXT") from None
    except OSError as error:
        raise NotFoundError(f"{path}: {error.strerror}.", reason="NO_TEXT") from None
