from __future__ import annotations

import os
from pathlib import Path

import pytest

from octavo.launcher.errors import LaunchError
from octavo.launcher.run_folder import new_run_folder

GONE = 2**22 + 1  # above the largest process id


def test_only_the_latest_runs_are_kept(tmp_path: Path) -> None:
    for day in range(1, 9):
        (tmp_path / f"serve-2020010{day}-000000-{GONE}").mkdir()
    (tmp_path / "mine").mkdir()
    folder = new_run_folder(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert folder.name in names and "mine" in names
    assert len(names) == 6
    assert names[1] == f"serve-20200105-000000-{GONE}"


def test_a_run_that_goes_on_keeps_its_folder(tmp_path: Path) -> None:
    mine = tmp_path / f"serve-20200101-000000-{os.getpid()}"
    for folder in [mine, *(tmp_path / f"serve-2020010{day}-000000-{GONE}" for day in range(2, 9))]:
        folder.mkdir()
    new_run_folder(tmp_path)
    assert mine.exists()


def test_a_folder_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LaunchError, match="--log-folder"):
        new_run_folder(tmp_path / "file")
