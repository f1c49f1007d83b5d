"""Which build runs: its version, and the commit where that is known."""

from __future__ import annotations

import os
import re
from pathlib import Path

import octavo

_COMMIT = "OCTAVO_COMMIT"  # environment: what an image was built from
_REPOSITORY = Path(octavo.__file__).parents[1]
_HASH = re.compile(r"[0-9a-f]{40}")


def commit(repository: Path = _REPOSITORY) -> str:
    """The commit that the environment names or that is checked out here; "" where neither is."""
    return os.environ.get(_COMMIT) or _checked_out(repository / ".git")


def _checked_out(git: Path) -> str:
    head = _text(git / "HEAD")
    if not head.startswith("ref: "):
        return head if _HASH.fullmatch(head) else ""
    name = head.removeprefix("ref: ")
    return _text(git / name) or _packed(_text(git / "packed-refs"), name)


def _packed(refs: str, name: str) -> str:
    """The commit of a reference that git has moved into its one file of many (git-pack-refs)."""
    lines = (line.split(" ", maxsplit=1) for line in refs.splitlines())
    return next((line[0] for line in lines if line[1:] == [name]), "")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
