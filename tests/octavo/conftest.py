"""A scripted server for whatever is a client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.octavo.client.scripted_server import ScriptedServer


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """Ends with nothing open, whatever the test did."""
    scripted = ScriptedServer()
    yield scripted
    scripted.stop()
    assert scripted.num_open == 0
