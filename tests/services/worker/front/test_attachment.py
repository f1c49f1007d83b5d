"""What one gateway is sent."""

from __future__ import annotations

import pytest

from octavo.errors import ResourceExhaustedError, UnavailableError
from octavo.v1 import worker_pb2
from services.worker.front import attachment as attachment_file
from services.worker.front.attachment import Attachment
from services.worker.link import unsent

LOAD = worker_pb2.Load(step=1)
IDLE = worker_pb2.Load(step=2)


def idle_load() -> worker_pb2.Load:
    return IDLE


async def test_responses_are_numbered_and_name_the_instance() -> None:
    attachment = Attachment("g", lambda: "i")
    for key in (1, 2):
        attachment.deliver([worker_pb2.RunItem(key=key)], LOAD)
        response = await attachment.next_response(idle_load)
        assert response is not None
        assert (response.sequence, response.instance_id) == (key, "i")
        assert [item.key for item in response.items] == [key]


async def test_the_load_comes_without_news(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attachment_file, "IDLE_S", 0.01)
    response = await Attachment("g", lambda: "i").next_response(idle_load)
    assert response is not None
    assert response.load == IDLE
    assert not response.items


async def test_what_is_queued_is_sent_before_the_end() -> None:
    attachment = Attachment("g", lambda: "i")
    attachment.deliver([worker_pb2.RunItem(key=1)], LOAD)
    attachment.close(UnavailableError("drained"))
    assert await attachment.next_response(idle_load) is not None
    with pytest.raises(UnavailableError):
        await attachment.next_response(idle_load)


async def test_a_gateway_that_closed_its_side_hears_its_requests_out() -> None:
    attachment, open_keys = Attachment("g", lambda: "i"), {1}
    attachment.close_when(lambda: not open_keys)
    attachment.deliver([worker_pb2.RunItem(key=1)], LOAD)
    assert await attachment.next_response(idle_load) is not None
    open_keys.clear()
    assert await attachment.next_response(idle_load) is None


async def test_a_gateway_that_does_not_read_is_dropped_with_a_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unsent, "MAX_BYTES", 100)
    attachment = Attachment("g", lambda: "i")
    attachment.deliver([worker_pb2.RunItem(key=1, token_ids=range(200))], LOAD)
    assert not attachment.broken.done()  # much at once does not speak against a reader
    attachment.deliver([], LOAD)
    with pytest.raises(ResourceExhaustedError) as caught:
        await attachment.broken
    assert caught.value.reason == "SLOW_READER"
    attachment.deliver([worker_pb2.RunItem(key=1, token_ids=range(200))], LOAD)
