"""README's file map is true: what it names exists, and every top-level folder is in it.

The map is the first fenced block under "## File map", one path and its description a line; a line
that is indented continues the one above it or names a path inside its folder.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

_REPOSITORY = Path(__file__).parent.parent
_ENTRY = re.compile(r"^(?P<path>[\w.][\w./-]*)\s{2,}(?P<description>\S.*)$")


@pytest.fixture(scope="module")
def file_map() -> dict[str, str]:
    readme = (_REPOSITORY / "README.md").read_text(encoding="utf-8")
    section = readme.split("\n## File map\n", maxsplit=1)[1]
    block = section.split("```", maxsplit=2)[1]
    lines = block.splitlines()[1:]  # without the fence's language
    entries = [_ENTRY.match(line) for line in lines if line.strip()]
    return {entry["path"]: entry["description"] for entry in entries if entry}


def test_every_path_of_the_map_exists(file_map: dict[str, str]) -> None:
    missing = [path for path in file_map if not (_REPOSITORY / path).exists()]
    assert not missing


def test_folders_end_with_a_slash_and_files_do_not(file_map: dict[str, str]) -> None:
    wrong = [path for path in file_map if (_REPOSITORY / path).is_dir() != path.endswith("/")]
    assert not wrong


def test_every_top_level_folder_is_in_the_map(file_map: dict[str, str]) -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=_REPOSITORY, capture_output=True, text=True, check=True
    )
    folders = {path.split("/")[0] + "/" for path in listed.stdout.splitlines() if "/" in path}
    shown = {folder for folder in folders if not folder.startswith(".")}
    assert shown <= file_map.keys()
