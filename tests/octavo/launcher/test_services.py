"""The services are found, or what is missing is said."""

from __future__ import annotations

from pathlib import Path

import pytest

import octavo
from octavo.launcher.errors import LaunchError
from octavo.launcher.services import services_root


def test_the_wheel_alone_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(octavo, "__file__", str(tmp_path / "octavo" / "__init__.py"))
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(LaunchError, match="only Octavo's client is installed here"):
        services_root()
