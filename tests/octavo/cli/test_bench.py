"""`octavo bench`: figures for people and for programs."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from octavo.bench.doors import DOORS
from octavo.cli.bench import DoorName
from octavo.errors import ResourceExhaustedError
from tests.octavo.cli.conftest import Run
from tests.octavo.client.scripted_server import ScriptedServer, refuse, say

FIVE = ["--max-tokens", "5", "--requests", "6"]


@pytest.fixture
def talking(server: ScriptedServer) -> ScriptedServer:
    server.script = say("a", "b", "c", "d", "e")
    return server


def test_its_doors_are_those_of_the_library() -> None:
    assert [door.value for door in DoorName] == list(DOORS)


@pytest.mark.parametrize("load", [["--concurrency", "3"], ["--rate", "500"], ["--timeout", "inf"]])
def test_a_table_for_people(run: Run, talking: ScriptedServer, load: list[str]) -> None:
    done = run("bench", *FIVE, *load)
    assert done.status == 0, done.err
    first, rates, good, _, head, *rows = done.out.splitlines()
    assert first.startswith("6 finished, 0 cancelled, 0 failed in ")
    assert "tokens/s" in rates and "100 % within the limits" in good
    assert head.split() == ["ms", "p50", "p90", "p99"]
    assert [row[:16].strip() for row in rows] == ["first token", "between tokens", "whole answer"]


def test_json_for_programs(run: Run, talking: ScriptedServer) -> None:
    (line,) = run("bench", *FIVE, "--json").out.splitlines()
    figures = json.loads(line)
    assert (figures["door"], figures["requests"], figures["tokens"]) == ("stream", 6, 30)
    assert figures["inter_token_ms"].keys() == {"p50", "p90", "p99"}


def test_failures_are_counted_by_reason(run: Run, server: ScriptedServer) -> None:
    full = ResourceExhaustedError("full", reason="QUEUE_FULL")
    server.script = refuse(full, times=2, then=say("a", "b", "c", "d", "e"))
    done = run("bench", *FIVE, "--concurrency", "1")
    assert done.status == 1
    assert done.out.splitlines()[0].startswith("4 finished, 0 cancelled, 2 failed in ")
    assert done.out.splitlines()[1] == "  2 QUEUE_FULL"


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--door", "http"], "http is absent"),
        (["--door", "http", "--http", "127.0.0.1:80"], 'http is "127.0.0.1:80"; it must be http:'),
        (["--door", "http", "--http", "http://a", "--timeout", "0"], "timeout is 0.0"),
        (["--max-tokens", "60"], "max_tokens is 60; it must be at most 59"),
    ],
)
def test_what_cannot_be_sent_is_one_line(run: Run, flags: list[str], problem: str) -> None:
    done = run("bench", *flags)
    assert done.status == 2
    assert done.err.startswith(f"octavo bench: {problem}")
    assert done.err.count("\n") == 1


class _OpenAIDoor(BaseHTTPRequestHandler):
    """Lists `models`, and answers every completion with five tokens of text."""

    models: list[dict[str, Any]]

    def do_GET(self) -> None:
        self._answer(json.dumps({"data": self.models}).encode())

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        text: dict[str, Any] = {"choices": [{"text": "a"}]}
        usage: dict[str, Any] = {"choices": [], "usage": {"completion_tokens": 5}}
        events = [text] * 5 + [usage]
        self._answer("".join(f"data: {json.dumps(event)}\n\n" for event in events).encode())

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def http_server(*models: dict[str, Any]) -> Iterator[str]:
    """The address of a server that lists `models`."""
    handler = type("_Door", (_OpenAIDoor,), {"models": [*models]})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        serving.join()


def test_over_http_it_needs_no_grpc(server: ScriptedServer, run: Run) -> None:
    server.stop()
    with http_server({"max_model_len": 64, "vocabulary_size": 96}) as url:
        done = run("bench", *FIVE, "--door", "http", "--http", url)
    assert done.status == 0, done.err
    assert done.out.startswith("6 finished, 0 cancelled, 0 failed in ")


def test_over_http_a_load_keeps_to_the_model_s_limits(run: Run) -> None:
    with http_server({"max_model_len": 64, "vocabulary_size": 96}) as url:
        done = run("bench", "--door", "http", "--http", url, "--max-tokens", "60")
    assert done.err.startswith("octavo bench: max_tokens is 60; it must be at most 59")


def test_another_kind_of_http_server_is_one_line(run: Run) -> None:
    with http_server({"id": "gpt"}) as url:
        done = run("bench", *FIVE, "--door", "http", "--http", url)
    assert (done.status, done.err.count("\n")) == (1, 1)
    assert f"{url} does not list one model of Octavo" in done.err


def test_no_http_server_is_status_3_and_says_what_to_do(run: Run) -> None:
    with http_server() as url:
        pass
    done = run("bench", *FIVE, "--door", "http", "--http", url)
    assert done.status == 3
    assert f"No server answers at {url}" in done.err and "--http" in done.err
