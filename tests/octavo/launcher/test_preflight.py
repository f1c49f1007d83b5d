from __future__ import annotations

import socket
from pathlib import Path

import pytest

from octavo.launcher import preflight
from octavo.launcher.errors import LaunchError
from octavo.launcher.settings import ServeSettings

FREE = ("--http-port=0", "--grpc-port=0", "--metrics-port=0")


def _settings(*flags: str) -> ServeSettings:
    return ServeSettings.load([*FREE, *flags], prog="octavo serve")


def _problem(*flags: str) -> str:
    with pytest.raises(LaunchError) as caught:
        preflight.check(_settings(*flags))
    assert caught.value.status == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_free_ports_and_a_folder_pass(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    preflight.check(_settings(f"--model={tmp_path}"))


@pytest.mark.parametrize("flag", ["--http-port", "--grpc-port", "--metrics-port"])
def test_a_port_in_use_is_named_with_its_flag(flag: str) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # as a gateway might
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert _problem(f"{flag}={port}") == f"{flag} {port} on 127.0.0.1: Address already in use"


def test_two_flags_with_one_port() -> None:
    problem = _problem("--http-port=9123", "--grpc-port=9123")
    assert problem == "--grpc-port and --http-port are both 9123"


def test_a_host_that_is_not_ours() -> None:
    assert "192.0.2.1" in _problem("--host=192.0.2.1", "--http-port=9123")


def test_what_is_missing_of_a_model_is_named(tmp_path: Path) -> None:
    assert _problem(f"--model={tmp_path}/none") == f"--model {tmp_path}/none does not exist"
    assert _problem(f"--model={tmp_path}") == f"--model {tmp_path} holds no config.json"
    assert _problem(f"--model={__file__}") == f"--model {__file__} is no folder"
