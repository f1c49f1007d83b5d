"""octavo.ready_file: the ports, whole or not at all."""

import json
from pathlib import Path

from octavo.ready_file import write_ready_file


def test_the_ports_are_written_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "ready.json"
    path.write_text("stale")
    write_ready_file(path, port=1, metrics_port=2)
    assert json.loads(path.read_text()) == {"port": 1, "metrics_port": 2}
    assert list(tmp_path.iterdir()) == [path]


def test_without_a_path_nothing_is_written(tmp_path: Path) -> None:
    write_ready_file(None, port=1)
    assert not list(tmp_path.iterdir())
