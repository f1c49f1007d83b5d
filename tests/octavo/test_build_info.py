"""octavo.build_info: the commit that runs, wherever it is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from octavo.build_info import commit

HASH = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def git(tmp_path: Path) -> Path:
    folder = tmp_path / ".git"
    (folder / "refs" / "heads").mkdir(parents=True)
    (folder / "HEAD").write_text("ref: refs/heads/main\n")
    return folder


def test_what_an_image_says_comes_first(git: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTAVO_COMMIT", "abc")
    assert commit(git.parent) == "abc"


def test_a_branch_a_packed_branch_and_a_detached_head_are_read(git: Path) -> None:
    (git / "packed-refs").write_text(f"# pack-refs with: peeled\n{HASH} refs/heads/main\n")
    assert commit(git.parent) == HASH
    (git / "refs" / "heads" / "main").write_text(HASH[::-1] + "\n")
    assert commit(git.parent) == HASH[::-1]
    (git / "HEAD").write_text(HASH + "\n")
    assert commit(git.parent) == HASH


def test_without_a_repository_it_is_not_known(tmp_path: Path) -> None:
    assert commit(tmp_path) == ""
