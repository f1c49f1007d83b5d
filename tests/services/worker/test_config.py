"""The flags of a worker group."""

from __future__ import annotations

import pytest

from services.worker.config import PROGRAM, WorkerSettings


def test_the_name_served_is_the_folders_unless_given() -> None:
    assert WorkerSettings.load(["--model", "/models/a"], prog=PROGRAM).served_name == "a"
    named = WorkerSettings.load(["--model", "/models/a", "--model-name", "b"], prog=PROGRAM)
    assert named.served_name == "b"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "--model or --hf-model-name is required"),
        (["--model", "m", "--num-devices", "2"], "what works is 1"),
        (["--model", "m", "--max-step-tokens", "4"], "at least --max-running (64)"),
        (["--model", "m", "--device", "tpu"], "--device"),
        (["--model", "m", "--port", "99999"], "--port"),
    ],
)
def test_wrong_flags_are_one_line_and_status_2(
    flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        WorkerSettings.load(flags, prog=PROGRAM)
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
