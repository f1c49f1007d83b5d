"""What the front logs and counts about requests."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
import structlog
from prometheus_client import CollectorRegistry

from octavo.errors import ResourceExhaustedError, UnavailableError, invalid_field
from octavo.v1 import worker_pb2 as pb
from services.worker.front.open_requests import OpenRequests
from services.worker.front.request_watch import RequestWatch
from services.worker.link.run_error import run_error

Lines = list[MutableMapping[str, Any]]


class Watched:
    """Requests of one owner, opened and ended as the group does."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.watch = RequestWatch(self.registry)
        self.open: OpenRequests[str] = OpenRequests(on_end=self.watch.ended)

    def submit(self, request_id: str) -> int:
        key = self.open.open("gateway", len(self.open), request_id)
        self.watch.submitted(pb.Submit(request_id=request_id, prompt_token_ids=[1, 2, 3]))
        return key

    def count(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"octavo_worker_{name}_total", labels)


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.fixture
def lines() -> Iterator[Lines]:
    with structlog.testing.capture_logs() as captured:
        yield captured


def test_a_request_that_finishes_is_two_debug_lines(watched: Watched, lines: Lines) -> None:
    key = watched.submit("mine")
    item = pb.RunItem(key=key, token_ids=[7, 8])
    item.finish.reason = pb.RUN_FINISH_REASON_STOP
    item.timings.SetInParent()
    watched.watch.generated([item])
    watched.open.route([item])
    assert [(line["event"], line["request_id"], line["log_level"]) for line in lines] == [
        ("submitted", "mine", "debug"),
        ("finished", "mine", "debug"),
    ]
    assert lines[1]["finish"] == "STOP"
    assert watched.count("requests", outcome="ok") == 1
    assert (watched.count("prompt_tokens"), watched.count("generated_tokens")) == (3, 2)


def test_refusals_and_failures_are_info_lines_with_their_reason(
    watched: Watched, lines: Lines
) -> None:
    watched.watch.refused("wrong", invalid_field("key", 1, "another"))
    for name, error in (
        ("full", ResourceExhaustedError("full", reason="QUEUE_FULL")),
        ("lost", UnavailableError("lost", reason="WORKER_LOST")),
    ):
        key = watched.submit(name)
        watched.open.route([pb.RunItem(key=key, error=run_error(error))])
    said = [
        (line["request_id"], line["event"], line["reason"])
        for line in lines
        if line["log_level"] == "info"
    ]
    assert said == [
        ("wrong", "refused", "INVALID_FIELD"),
        ("full", "refused", "QUEUE_FULL"),
        ("lost", "failed", "WORKER_LOST"),
    ]
    assert watched.count("requests", outcome="refused") == 2
    assert watched.count("errors", reason="WORKER_LOST") == 1


def test_what_is_cancelled_or_left_behind_is_no_failure(watched: Watched, lines: Lines) -> None:
    item = pb.RunItem(key=watched.submit("cancelled"))
    item.finish.reason = pb.RUN_FINISH_REASON_CANCELLED
    item.timings.SetInParent()
    watched.open.route([item])
    watched.submit("left")
    watched.open.drop("gateway")
    assert watched.count("requests", outcome="cancelled") == 2
    assert [(line["event"], line["request_id"]) for line in lines[1::2]] == [
        ("finished", "cancelled"),
        ("dropped", "left"),
    ]
