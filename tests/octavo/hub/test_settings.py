"""The one model of a process: a folder or a name on the hub, and never both."""

from __future__ import annotations

from pathlib import Path

import pytest

from octavo.errors import OctavoError
from octavo.hub.settings import ModelSettings
from tests.octavo.hub.local_hub import local_hub

FILES = {"config.json": b"{}", "model.safetensors": b"weights"}


def load(*flags: str) -> ModelSettings:
    return ModelSettings.load(flags, prog="example")


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ((), "--model or --hf-model-name is required"),
        (("--model=a", "--hf-model-name=b/c"), "--model and --hf-model-name are both given"),
        (("--model=a", "--hf-revision=v1"), "--hf-revision is of --hf-model-name"),
    ],
)
def test_one_model_is_named(
    flags: tuple[str, ...], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        load(*flags)
    assert capsys.readouterr().err.startswith(f"example: {problem}")


def test_a_folder_is_taken_as_it_is() -> None:
    assert load("--model=a").with_folder().folder == Path("a")


def test_a_name_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with local_hub() as hub:
        hub.files = FILES
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        folder = load("--hf-model-name=tests/model", "--hf-revision=main").with_folder().folder
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES
        with pytest.raises(OctavoError, match=r"tests/model has no revision 'v9' on the hub\."):
            load("--hf-model-name=tests/model", "--hf-revision=v9").with_folder()
