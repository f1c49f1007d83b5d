"""README's file map is true: what it names exists, and every top-level folder is in it.

The map is the first fenced block under "## File map": a path, two spaces or more, and what it is. A
line that is indented names a path inside the folder above it, or goes on with the description.
"""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

_REPOSITORY = Path(__file__).parent.parent
_ENTRY = re.compile(r"^(?P<indent> *)(?P<path>[\w.][\w./-]*) {2,}\S")


def paths_of(block: str) -> list[str]:
    """The paths that a map names, from the repository's root."""
    found: list[str] = []
    parents: list[tuple[int, str]] = []  # indent and path of the folders above a line
    for line in block.splitlines():
        if entry := _ENTRY.match(line):
            indent = len(entry["indent"])
            parents = [(above, folder) for above, folder in parents if above < indent]
            found.append((parents[-1][1] if parents else "") + entry["path"])
            if entry["path"].endswith("/"):
                parents.append((indent, found[-1]))
        else:
            assert not line.strip() or line.startswith(" "), f"no path and description: {line!r}"
    return found


@pytest.fixture(scope="module")
def file_map() -> list[str]:
    readme = (_REPOSITORY / "README.md").read_text(encoding="utf-8")
    section = readme.split("\n## File map\n", maxsplit=1)[1]
    return paths_of(section.split("```", maxsplit=2)[1].partition("\n")[2])


def test_a_map_reads_as_paths() -> None:
    lines = ["octavo/    what you import,", "           in two lines", "  v1/      stubs"]
    assert paths_of("\n".join([*lines, "Makefile  verbs"])) == ["octavo/", "octavo/v1/", "Makefile"]


def test_every_path_of_the_map_exists(file_map: list[str]) -> None:
    missing = [path for path in file_map if not (_REPOSITORY / path).exists()]
    assert file_map
    assert not missing


def test_folders_and_only_folders_end_with_a_slash(file_map: list[str]) -> None:
    wrong = [path for path in file_map if (_REPOSITORY / path).is_dir() != path.endswith("/")]
    assert not wrong


def test_every_top_level_folder_is_in_the_map(file_map: list[str]) -> None:
    ignored = (_REPOSITORY / ".gitignore").read_text(encoding="utf-8").splitlines()
    folders = {f"{path.name}/" for path in _REPOSITORY.iterdir() if path.is_dir()}
    ours = {
        folder
        for folder in folders
        if not folder.startswith(".") and not any(fnmatch(folder, name) for name in ignored)
    }
    assert ours <= set(file_map)
