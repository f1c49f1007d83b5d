"""Runs commands in this process against a scripted server."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from octavo.cli.main import main
from tests.octavo.client.scripted_server import ScriptedServer


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """What a command left."""

    status: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def run(
    server: ScriptedServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Run:
    """Runs `octavo` with arguments; what is piped in comes as `stdin`."""
    monkeypatch.setenv("OCTAVO_ADDRESS", server.address)

    def run_command(*arguments: str, stdin: str = "") -> Done:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        status = main(arguments)
        captured = capsys.readouterr()
        return Done(status=status, out=captured.out, err=captured.err)

    return run_command
