"""Merging of what nobody has read."""

from __future__ import annotations

import pytest

from octavo.v1 import worker_pb2
from services.worker.link import unsent
from services.worker.link.request_end import ends_request
from services.worker.link.unsent import Unsent

LOAD = worker_pb2.Load(step=3)


def item(key: int, *ids: int, end: bool = False, start: bool = False) -> worker_pb2.RunItem:
    message = worker_pb2.RunItem(key=key, token_ids=ids)
    if start:
        message.start.cached_prompt_token_count = 2
    if end:
        message.finish.reason = worker_pb2.RUN_FINISH_REASON_STOP
        message.timings.queue_ms = 1
    return message


def test_items_of_one_output_are_joined_and_keep_what_comes_once() -> None:
    waiting = Unsent()
    waiting.add([item(1, 10, start=True), item(2, 20)], worker_pb2.Load(step=1), 0)
    waiting.add([item(1, 11, 12)], worker_pb2.Load(step=2), 0)
    waiting.add([item(1, 13, end=True)], LOAD, 0)
    first, second = waiting.take().items
    assert list(first.token_ids) == [10, 11, 12, 13]
    assert first.start.cached_prompt_token_count == 2
    assert first.finish.reason == worker_pb2.RUN_FINISH_REASON_STOP
    assert first.timings.queue_ms == 1
    assert list(second.token_ids) == [20]


def test_the_newest_load_is_sent_and_nothing_is_sent_twice() -> None:
    waiting = Unsent()
    waiting.add([item(1, 10)], worker_pb2.Load(step=1), 0)
    waiting.add([], LOAD, 0)
    assert waiting
    assert waiting.take().load == LOAD
    assert not waiting
    assert waiting.overflow(1e9) is None


def test_a_key_that_comes_again_after_its_end_is_another_request() -> None:
    waiting = Unsent()
    waiting.add([item(1, 10, end=True)], LOAD, 0)
    waiting.add([item(1, 11)], LOAD, 0)
    waiting.add([item(1, 12)], LOAD, 0)
    assert [list(part.token_ids) for part in waiting.take().items] == [[10], [11, 12]]


def test_the_refusal_of_a_key_in_use_leaves_the_open_request_alone() -> None:
    waiting = Unsent()
    waiting.add([item(1, 10)], LOAD, 0)
    waiting.add_apart(worker_pb2.RunItem(key=1, error=worker_pb2.RunError(code=6)), LOAD, 0)
    waiting.add([item(1, 11)], LOAD, 0)
    open_one, refused = waiting.take().items
    assert list(open_one.token_ids) == [10, 11]
    assert not open_one.HasField("error")
    assert refused.error.code == 6


def output(index: int, *ids: int, end: str = "") -> worker_pb2.RunItem:
    """An item of one of several outputs; its end is that of the output or of the request."""
    message = worker_pb2.RunItem(key=1, output_index=index, token_ids=ids)
    if end:
        message.finish.reason = worker_pb2.RUN_FINISH_REASON_STOP
    if end == "request":
        message.timings.queue_ms = 1
    return message


def shape(response: worker_pb2.RunResponse) -> list[tuple[int, list[int], bool]]:
    """Output, ids, and whether the request ends there, of each item."""
    return [
        (part.output_index, list(part.token_ids), ends_request(part)) for part in response.items
    ]


def test_the_end_of_a_request_comes_after_all_of_its_outputs() -> None:
    waiting = Unsent()
    waiting.add([output(0, 10), output(1, 20)], LOAD, 0)
    waiting.add([output(0, 11), output(1, 21, end="output")], LOAD, 0)
    waiting.add([output(0, 12, end="request")], LOAD, 0)
    waiting.add([output(1, 99)], LOAD, 0)  # the key again: another request
    assert shape(waiting.take()) == [
        (0, [10, 11], False),
        (1, [20, 21], False),
        (0, [12], True),
        (1, [99], False),
    ]


def test_an_error_comes_after_all_outputs_of_its_request() -> None:
    waiting = Unsent()
    waiting.add([output(0, 10), output(1, 20)], LOAD, 0)
    waiting.add([worker_pb2.RunItem(key=1, error=worker_pb2.RunError(code=13))], LOAD, 0)
    assert shape(waiting.take()) == [(0, [10], False), (1, [20], False), (0, [], True)]


def test_an_error_leaves_the_finish_of_an_output_as_it_is() -> None:
    waiting = Unsent()
    waiting.add([output(0, 10, end="output")], LOAD, 0)
    waiting.add([worker_pb2.RunItem(key=1, error=worker_pb2.RunError(code=13))], LOAD, 0)
    finished, failed = waiting.take().items
    assert (finished.WhichOneof("end"), failed.WhichOneof("end")) == ("finish", "error")


def test_more_than_a_message_holds_comes_in_several_and_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unsent, "MAX_MESSAGE_BYTES", 100)
    waiting = Unsent()
    waiting.add([item(key, *range(30)) for key in range(5)], LOAD, 7.0)
    responses = [waiting.take()]
    waiting.add([item(4, 99, end=True), item(5, *range(300))], LOAD, 8.0)
    while waiting:
        assert waiting.overflow(7.5 + unsent.MAX_AGE_S) is not None
        responses.append(waiting.take())
    assert [[part.key for part in response.items] for response in responses] == [
        [0, 1, 2],
        [3, 4, 4],
        [5],
    ]
    assert all(response.load == LOAD for response in responses)
    assert waiting.overflow(1e9) is None


def test_limits_of_age_and_size() -> None:
    waiting = Unsent()
    waiting.add([item(1, 10)], LOAD, 100.0)
    assert waiting.overflow(100.0 + unsent.MAX_AGE_S) is None
    assert "nothing was read" in (waiting.overflow(100.1 + unsent.MAX_AGE_S) or "")
    waiting.clear()
    big = item(1, *([2**31] * 100_000))
    for _ in range(20):
        waiting.add([worker_pb2.RunItem.FromString(big.SerializeToString())], LOAD, 0)
    assert "bytes are unread" in (waiting.overflow(0) or "")
