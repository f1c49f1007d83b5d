from __future__ import annotations

from pathlib import Path

import pytest

from octavo.launcher.errors import LaunchError
from octavo.launcher.run_folder import new_run_folder


def test_only_the_latest_runs_are_kept(tmp_path: Path) -> None:
    for day in range(1, 9):
        (tmp_path / f"serve-2020010{day}-000000-1").mkdir()
    (tmp_path / "mine").mkdir()
    folder = new_run_folder(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert folder.name in names and "mine" in names
    assert len(names) == 6
    assert names[1] == "serve-20200105-000000-1"


def test_a_folder_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LaunchError, match="--log-folder"):
        new_run_folder(tmp_path / "file")
