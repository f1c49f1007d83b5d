"""`octavo completion`: the scripts, and what bash offers with its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from octavo.cli.main import COMMANDS, main
from octavo.cli.worker_tools import complete_tool
from octavo.launcher.errors import LaunchError
from octavo.launcher.settings import ServeSettings

Offers = Callable[[str], set[str]]


def script_of(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["completion", shell]) == 0
    return capsys.readouterr().out


@pytest.fixture
def offers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Offers:
    """What bash offers for the last word of a line, with the script that is printed for it."""
    program = tmp_path / "octavo"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m octavo "$@"\n')
    program.chmod(0o755)
    script = script_of("bash", capsys)

    def offered(line: str) -> set[str]:
        words = line.split(" ")
        quoted = " ".join(f"'{word}'" for word in words)
        asked = (
            f"COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1};"
            '_octavo_completion octavo; printf "%s\\n" "${COMPREPLY[@]}"'
        )
        done = subprocess.run(
            ["bash", "--norc", "-c", f"{script}\n{asked}"],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        )
        assert done.stderr == ""
        return set(done.stdout.split())

    return offered


def test_bash_offers_commands_flags_and_choices(offers: Offers) -> None:
    assert offers("octavo ") == set(COMMANDS)
    assert offers("octavo co") == {"complete", "completion"}
    assert offers("octavo --") == {"--version", "--help"}
    assert offers("octavo chat --te") == {"--temperature"}
    assert {"--address", "--json", "--stop", "--n"} <= offers("octavo complete x --")
    assert offers("octavo completion ") == {"bash", "zsh", "fish"}


def test_bash_offers_the_flags_of_serve(offers: Offers) -> None:
    flags = {f"--{name.replace('_', '-')}" for name in ServeSettings.model_fields}
    assert flags <= offers("octavo serve --")
    assert offers("octavo serve --device ") == {"cpu", "cuda", "auto"}


@pytest.mark.slow
def test_bash_offers_the_flags_of_tools(offers: Offers) -> None:
    assert {"--num-devices", "--kernels", "--json"} <= offers("octavo inspect models/mine --")
    assert offers("octavo quantize --dialect ") == {"friendli", "compressed-tensors"}
    assert offers("octavo synthesize --in-m") == {"--in-memory"}
    assert offers("octavo perplexity mine text --fp8-k") == {"--fp8-kv-cache"}


@pytest.mark.parametrize(("shell", "offered"), [("zsh", '"--dialect":'), ("fish", "--dialect\t")])
def test_other_shells_are_told_what_flags_of_tools_mean(shell: str, offered: str) -> None:
    asked = {
        "_OCTAVO_COMPLETE": f"complete_{shell}",
        "_TYPER_COMPLETE_ARGS": "octavo quantize --dia",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    done = subprocess.run(
        [sys.executable, "-m", "octavo"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **asked},
    )
    assert f"{offered}" in done.stdout and "Who shall read it." in done.stdout


def test_where_only_the_client_is_installed_nothing_is_offered(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def nowhere() -> Path:
        raise LaunchError("only the client is here", 2)

    monkeypatch.setattr("octavo.cli.worker_tools.services_root", nowhere)
    assert complete_tool() == 1
    assert capfd.readouterr() == ("", "")


def test_a_flag_without_choices_leaves_files_to_bash(offers: Offers) -> None:
    assert offers("octavo serve --model ") == set()


@pytest.mark.parametrize(
    ("shell", "line"),
    [
        ("bash", "complete -o default -F _octavo_completion octavo"),
        ("zsh", "compdef _octavo_completion octavo"),
        ("fish", "complete --command octavo"),
    ],
)
def test_the_scripts_register_octavo(
    shell: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    script = script_of(shell, capsys)
    assert line in script
    assert f"_OCTAVO_COMPLETE=complete_{shell}" in script


def test_bash_reads_its_script(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["bash", "-n", "-c", script_of("bash", capsys)]
    assert subprocess.run(command, check=False).returncode == 0


def test_another_shell_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "ksh"]) == 2
    assert "'bash', 'zsh', 'fish'" in capsys.readouterr().err
