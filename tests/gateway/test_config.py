"""The settings of a gateway that are more than a number."""

from __future__ import annotations

import pytest

from gateway.config import GatewaySettings


def load(*arguments: str) -> GatewaySettings:
    return GatewaySettings.load(list(arguments), prog="python -m gateway")


def test_web_pages_may_call_from_nowhere_unless_said() -> None:
    assert load().cors_origin == []
    named = load("--cors-origin", "https://a.example.com", "--cors-origin", "http://localhost:3000")
    assert named.cors_origin == ["https://a.example.com", "http://localhost:3000"]
    assert load("--cors-origin=*").cors_origin == ["*"]


@pytest.mark.parametrize("origin", ["a.example.com", "https://a.example.com/", "https://", "**"])
def test_what_could_never_match_is_no_origin(
    origin: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        load("--cors-origin", origin)
    assert raised.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("python -m gateway: --cors-origin is ")
    assert origin in error and error.count("\n") == 1
