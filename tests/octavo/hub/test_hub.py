"""`python -m octavo.hub` against a stand-in for the hub: what it fetches, keeps and says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.octavo.hub.local_hub import Hub, local_hub

SERVED = {
    "config.json": b'{"one": 1}',
    "generation_config.json": b'{"two": 2}',
    "model-00001-of-00002.safetensors": b"a" * 3_000_000,
    "model-00002-of-00002.safetensors": b"b" * 1_000,
    "model.safetensors.index.json": b'{"three": 3}',
    "tokenizer.json": b'{"four": 4}',
    "tokenizer.model": b"pieces",
    "tokenizer_config.json": b'{"five": 5}',
}
OTHERS = {
    "consolidated.safetensors": b"the same again",
    "original/model.safetensors": b"and again",
    "onnx/config.json": b"for another program",
    "pytorch_model.bin": b"a pickle",
    "modeling_custom.py": b"code",
    "README.md": b"prose",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """What the program left."""

    status: int
    out: str
    err: str

    @property
    def folder(self) -> Path:
        return Path(self.out.splitlines()[-1])


@pytest.fixture
def hub() -> Iterator[Hub]:
    with local_hub() as running:
        running.files = {**SERVED, **OTHERS}
        yield running


@pytest.fixture
def fetch(hub: Hub, tmp_path: Path) -> Callable[..., Done]:
    """Runs the program with the stand-in as its hub and a cache of its own."""

    def run(*arguments: str, **variables: str) -> Done:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("HF_")},
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "hf"),
            **variables,
        }
        command = [sys.executable, "-m", "octavo.hub", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return Done(status=done.returncode, out=done.stdout, err=done.stderr)

    return run


def test_what_is_served_is_fetched_and_nothing_else(hub: Hub, fetch: Callable[..., Done]) -> None:
    done = fetch("tests/model")
    assert done.status == 0, done.err
    found = {path.name: path.read_bytes() for path in done.folder.iterdir()}
    assert found == SERVED
    assert sorted(hub.fetched) == sorted(SERVED)
    assert "downloading tests/model" in done.err and "/ 3.0 MB" in done.err


def test_a_warm_cache_needs_no_hub(hub: Hub, fetch: Callable[..., Done]) -> None:
    folder = fetch("tests/model").folder
    hub.fetched.clear()
    assert fetch("tests/model").folder == folder
    assert fetch("tests/model", HF_HUB_OFFLINE="1").folder == folder
    assert fetch("tests/model", HF_ENDPOINT="http://127.0.0.1:9").folder == folder
    assert hub.fetched == []


def test_a_gated_model_gives_the_hubs_reason_and_opens_to_a_token(
    hub: Hub, fetch: Callable[..., Done]
) -> None:
    hub.gated = True
    refused = fetch("tests/model")
    assert refused.status == 2 and refused.err.count("\n") == 1
    assert "Access to model tests/model is restricted" in refused.err and "HF_TOKEN" in refused.err
    assert fetch("tests/model", HF_TOKEN="right").status == 0
    assert hub.tokens == {"right"}


@pytest.mark.parametrize(
    ("arguments", "variables", "problem"),
    [
        (["tests/absent"], {}, "tests/absent is not on the hub, or is private"),
        (["tests/model", "--revision=v9"], {}, "tests/model has no revision 'v9' on the hub"),
        (["a/b/c"], {}, '--hf-model-name is "a/b/c"; it must be ORG/NAME, as the hub has it'),
        (["tests/model"], {"HF_HUB_OFFLINE": "1"}, "tests/model is not whole in the cache"),
        (
            ["tests/model"],
            {"HF_ENDPOINT": "http://127.0.0.1:9"},
            "tests/model is not whole in the cache, and the hub cannot be asked",
        ),
    ],
)
def test_what_cannot_be_had_is_one_line(
    fetch: Callable[..., Done], arguments: list[str], variables: dict[str, str], problem: str
) -> None:
    done = fetch(*arguments, **variables)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(f"python -m octavo.hub: {problem}") and done.err.count("\n") == 1


def test_a_parent_is_told_on_stdout(fetch: Callable[..., Done]) -> None:
    done = fetch("tests/absent", "--relayed")
    assert (done.status, done.err) == (2, "")
    assert done.out.startswith("tests/absent is not on the hub") and done.out.count("\n") == 1


@pytest.mark.parametrize(
    ("missing", "problem"),
    [("config.json", "no config.json"), ("model-0", "no safetensors; pickles may run code")],
)
def test_what_cannot_be_served_is_said(
    hub: Hub, fetch: Callable[..., Done], missing: str, problem: str
) -> None:
    kept = {**SERVED, **OTHERS}.items()
    hub.files = {name: data for name, data in kept if not name.startswith(missing)}
    done = fetch("tests/model")
    assert done.status == 2 and f"tests/model holds {problem}" in done.err
