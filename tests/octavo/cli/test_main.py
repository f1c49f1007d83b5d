from __future__ import annotations

import pytest

import octavo
from octavo.cli.main import main


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == main(["--help"]) == 0
    assert "serve" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"octavo {octavo.__version__}\n"


def test_a_command_that_is_none_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serv"]) == 2
    assert capsys.readouterr().err == "octavo: serv is not a command; did you mean serve?\n"


def test_a_flag_that_is_none_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["serve", "--http-prot=1"])
    assert caught.value.code == 2
    assert capsys.readouterr().err == (
        "octavo serve: --http-prot is not a flag; did you mean --http-port?\n"
    )
