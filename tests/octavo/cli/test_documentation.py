"""docs/cli.md says what the command line does: commands, flags and exit statuses."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from octavo.cli import exit_status
from octavo.cli.main import COMMANDS, main

PAGE = Path("docs") / "cli.md"


@pytest.fixture
def page(repository: Path) -> str:
    return (repository / PAGE).read_text(encoding="utf-8")


def test_every_command_is_in_its_table(page: str) -> None:
    assert re.findall(r"^\| `octavo (\w+)` \|", page, re.MULTILINE) == list(COMMANDS)


def test_every_exit_status_is_in_its_table(page: str) -> None:
    statuses = {value for value in vars(exit_status).values() if isinstance(value, int)}
    rows = re.findall(r"^\| (\d+) \|", page, re.MULTILINE)
    assert {int(row) for row in rows} == statuses


def examples(text: str) -> list[list[str]]:
    """The words of each `octavo ...` in the page's blocks, up to a pipe, redirection or comment."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    commands = re.findall(r"\boctavo ((?:[^|<>#\n)\"']|\"[^\"]*\"|'[^']*')*)", "".join(blocks))
    return [shlex.split(command) for command in commands]


def test_the_flags_of_every_example_exist(page: str, capfd: pytest.CaptureFixture[str]) -> None:
    found = examples(page)
    assert len(found) > 10
    for command, *words in found:
        assert main([command, "--help"]) == 0
        text = capfd.readouterr().out
        flags = [word for word in words if re.match(r"--\w|-[a-z]$", word)]
        assert not [flag for flag in flags if not re.search(rf"(^|\s){flag}[ ,]", text)]
