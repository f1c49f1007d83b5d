"""`octavo models`: a table, one model, JSON."""

from __future__ import annotations

import json

from tests.octavo.cli.conftest import Run


def test_a_table_of_models(run: Run) -> None:
    done = run("models")
    assert done.status == 0
    heading, row = done.out.splitlines()
    assert heading.split() == ["NAME", "READY", "CONTEXT", "CHAT", "DEFAULTS"]
    assert row.split()[:4] == ["tiny", "yes", "64", "yes"]
    assert heading.index("CHAT") == row.index("yes", 10)


def test_one_model_has_its_limits_and_fields(run: Run) -> None:
    lines = run("models", "tiny").out.splitlines()
    assert ["outputs", "4"] in [line.split() for line in lines]
    assert lines[-1] == "  sampling.temperature"


def test_json_is_one_object_a_model(run: Run) -> None:
    (line,) = run("models", "--json").out.splitlines()
    model = json.loads(line)
    assert (model["name"], model["capabilities"]["max_outputs"]) == ("tiny", 4)
