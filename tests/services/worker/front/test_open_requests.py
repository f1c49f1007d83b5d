"""The map between gateways' keys and the engine's."""

from __future__ import annotations

import pytest

from octavo.errors import AlreadyExistsError, UnavailableError
from octavo.v1 import worker_pb2
from services.worker.front.open_requests import OpenRequests


def item(key: int, *ids: int, finish: bool = False) -> worker_pb2.RunItem:
    message = worker_pb2.RunItem(key=key, token_ids=ids)
    if finish:
        message.finish.reason = worker_pb2.RUN_FINISH_REASON_LENGTH
        message.timings.queue_ms = 1
    return message


def test_two_gateways_may_use_the_same_key() -> None:
    requests: OpenRequests[str] = OpenRequests()
    first, second = requests.open("a", 7), requests.open("b", 7)
    assert first != second
    routed = requests.route([item(first, 1), item(second, 2)])
    assert [(part.key, list(part.token_ids)) for part in routed["a"]] == [(7, [1])]
    assert [(part.key, list(part.token_ids)) for part in routed["b"]] == [(7, [2])]


def test_a_key_in_use_is_refused_and_free_after_its_end() -> None:
    requests: OpenRequests[str] = OpenRequests()
    engine_key = requests.open("a", 7)
    with pytest.raises(AlreadyExistsError, match="7"):
        requests.open("a", 7)
    requests.route([item(engine_key, finish=True)])
    assert requests.count("a") == len(requests) == 0
    assert requests.open("a", 7) != engine_key


def test_a_request_is_open_until_its_last_output_ends() -> None:
    requests: OpenRequests[str] = OpenRequests()
    engine_key = requests.open("a", 7)
    finish = worker_pb2.RunFinish(reason=worker_pb2.RUN_FINISH_REASON_LENGTH)
    requests.route([worker_pb2.RunItem(key=engine_key, output_index=1, finish=finish)])
    assert requests.count("a") == 1
    assert list(requests.route([item(engine_key, 5, finish=True)])) == ["a"]
    assert requests.count("a") == 0


def test_items_of_requests_that_ended_here_are_dropped() -> None:
    requests: OpenRequests[str] = OpenRequests()
    engine_key = requests.open("a", 7)
    assert requests.drop("a") == [engine_key]
    assert requests.drop("a") == []
    assert requests.route([item(engine_key, 1)]) == {}


def test_only_open_keys_are_cancelled() -> None:
    requests: OpenRequests[str] = OpenRequests()
    engine_key = requests.open("a", 7)
    assert requests.engine_keys("a", [7, 8]) == [engine_key]
    assert requests.engine_keys("b", [7]) == []


def test_the_loss_of_the_ranks_ends_everything_with_one_reason() -> None:
    requests: OpenRequests[str] = OpenRequests()
    requests.open("a", 1)
    requests.open("a", 2)
    requests.open("b", 1)
    ended = requests.end_all(UnavailableError("gone", reason="WORKER_LOST", retry_delay_ms=5))
    assert [part.key for part in ended["a"]] == [1, 2]
    assert ended["b"][0].error.reason == "WORKER_LOST"
    assert ended["b"][0].error.retry_delay_ms == 5
    assert len(requests) == 0
