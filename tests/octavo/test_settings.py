"""octavo.settings: flags, then environment, then a file; what is wrong is one line and status 2."""

from pathlib import Path

import pytest
from pydantic import Field, ValidationError

from octavo.settings import ProcessSettings


class ExampleSettings(ProcessSettings):
    """Settings of no process."""

    http_port: int = Field(8000, ge=0, le=65535, description="Port of HTTP.")
    worker: list[str] = Field(default_factory=list, description="Addresses.")
    reflection: bool = Field(True, description="Serve reflection.")
    model: str = Field(description="Folder.")


def load(*arguments: str) -> ExampleSettings:
    return ExampleSettings.load(arguments, prog="example")


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as exit_info:
        load(*arguments)
    assert exit_info.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


def test_flags_are_read() -> None:
    settings = load(
        "--model", "m", "--http-port=1", "--worker", "a:1", "--worker", "b:2", "--no-reflection"
    )
    assert settings == ExampleSettings(
        model="m", http_port=1, worker=["a:1", "b:2"], reflection=False
    )


def test_flags_win_over_environment_and_environment_over_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "octavo.toml"
    path.write_text('model = "file"\nhttp-port = 1\nworker = ["file:1"]\n')
    monkeypatch.setenv("OCTAVO_HTTP_PORT", "2")
    monkeypatch.setenv("OCTAVO_WORKER", "env:1, env:2")
    settings = load("--config", str(path), "--worker", "flag:1")
    assert (settings.model, settings.http_port, settings.worker) == ("file", 2, ["flag:1"])
    assert load("--config", str(path)).worker == ["env:1", "env:2"]


def test_a_setting_cannot_be_changed() -> None:
    settings = load("--model", "m")
    with pytest.raises(ValidationError):
        settings.http_port = 1  # type: ignore[misc]  # what must not work


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((), "--model is required"),
        (("--model", "m", "--http-prot", "1"), "did you mean --http-port?"),
        (("--model", "m", "--http-port", "x"), "--http-port is x"),
        (("--model", "m", "--http-port", "70000"), "65535"),
        (("--model",), "--model"),
        (("--model", "m", "more"), "more"),
        (("--config", "/nonexistent.toml"), "/nonexistent.toml"),
        (("--config",), "--config"),
    ],
)
def test_what_is_wrong_is_one_line(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], named: str
) -> None:
    assert named in refused(capsys, *arguments)


def test_a_typing_error_in_the_file_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "octavo.toml"
    path.write_text("http-prot = 1\n")
    assert "http-port" in refused(capsys, "--config", str(path))


def test_a_file_names_no_other_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "octavo.toml"
    path.write_text('config = "other.toml"\n')
    assert refused(capsys, "--config", str(path)).endswith("config is not a setting")


def test_help_names_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        load("--help")
    assert exit_info.value.code == 0
    text = capsys.readouterr().out
    assert all(flag in text for flag in ("--config", "--http-port", "--worker", "--model"))
