from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from services.worker.tools.prepare import __main__ as command
from services.worker.tools.prepare import default_model
from services.worker.tools.prepare.default_model import prepared_default_model
from services.worker.tools.prepare.errors import PrepareError
from services.worker.tools.prepare.model_folder import write_model
from services.worker.tools.prepare.progress import OnProgress


@pytest.fixture
def builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that were built, by a stand-in that downloads and converts nothing."""
    folders: list[Path] = []

    def build(_wheel: Path, folder: Path, recipe: str, _on_progress: OnProgress) -> None:
        folders.append(folder)
        write_model(folder, {}, {"config.json": {"built": len(folders)}}, recipe)

    monkeypatch.setenv("OCTAVO_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(default_model, "cached_wheel", lambda cache, _progress: cache / "wheel")
    monkeypatch.setattr(default_model, "_build", build)
    return folders


def test_built_once(builds: list[Path], tmp_path: Path) -> None:
    folder = prepared_default_model()
    assert folder == tmp_path / "cache" / "models" / "SmolLM2-135M-Instruct"
    assert prepared_default_model() == folder
    assert len(builds) == 1
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_in_bf16_it_has_a_folder_of_its_own(builds: list[Path]) -> None:
    assert prepared_default_model(fp8=False).name == "SmolLM2-135M-Instruct-bf16"
    prepared_default_model(fp8=False)
    prepared_default_model()
    assert len(builds) == 2


def test_another_recipe_or_a_damaged_file_is_built_again(
    builds: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = prepared_default_model()
    (folder / "config.json").write_text("")
    prepared_default_model()
    monkeypatch.setattr(default_model, "RECIPE", "2")
    prepared_default_model()
    assert len(builds) == 3
    assert '"built": 3' in (folder / "config.json").read_text()


def test_two_at_once_build_once(builds: list[Path]) -> None:
    threads = [threading.Thread(target=prepared_default_model) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(builds) == 1


def test_a_folder_of_somebody_else_is_left_alone(builds: list[Path], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(PrepareError, match="holds something else"):
        prepared_default_model(output=tmp_path / "mine")
    assert builds == []


def test_a_full_disk_is_one_line_and_leaves_nothing(
    builds: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(_wheel: Path, folder: Path, _recipe: str, _on_progress: OnProgress) -> None:
        (folder / "model.safetensors").write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "model.safetensors")

    monkeypatch.setattr(default_model, "_build", fail)
    assert command.main(["--quiet"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "prepare: the disk is full at model.safetensors; OCTAVO_CACHE_DIR names another folder\n"
    )
    assert list((tmp_path / "cache" / "models").iterdir()) == []


@pytest.mark.usefixtures("builds")
def test_the_folder_is_the_last_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert command.main(["--output", str(tmp_path / "model")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "model")
