"""Merging of what nobody has read."""

from __future__ import annotations

from octavo.v1 import worker_pb2
from services.worker.link import unsent
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
