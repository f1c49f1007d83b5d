"""Events in order, deltas merged while nobody reads."""

from __future__ import annotations

import asyncio

import pytest

from gateway.event_buffer import EventBuffer
from gateway.events import Accepted, Delta, Event, Finished, FinishReason, Token
from octavo.errors import UnavailableError

ACCEPTED = Accepted(
    request_id="r", model="m", num_prompt_tokens=1, num_cached_prompt_tokens=0, seed=1
)


def finished(index: int) -> Finished:
    return Finished(output_index=index, reason=FinishReason.LENGTH)


async def read(buffer: EventBuffer) -> list[Event]:
    return [event async for event in buffer]


async def test_deltas_that_queue_up_become_one_for_each_output() -> None:
    buffer = EventBuffer()
    buffer.add(ACCEPTED)
    for letter in "abc":
        buffer.add_delta(0, letter, [Token(id=ord(letter))])
        buffer.add_delta(1, letter.upper(), [])
    buffer.add(finished(1))
    buffer.add_delta(0, "d", [])
    buffer.add(finished(0))
    buffer.end()
    assert await read(buffer) == [
        ACCEPTED,
        Delta(output_index=0, text="abcd", tokens=tuple(Token(id=ord(x)) for x in "abc")),
        Delta(output_index=1, text="ABC"),
        finished(1),
        finished(0),
    ]


async def test_a_delta_that_was_read_grows_no_more() -> None:
    buffer = EventBuffer()
    buffer.add_delta(0, "a", [])
    assert await anext(buffer) == Delta(output_index=0, text="a")
    buffer.add_delta(0, "b", [])
    assert await anext(buffer) == Delta(output_index=0, text="b")


async def test_an_empty_delta_is_no_event() -> None:
    buffer = EventBuffer()
    buffer.add_delta(0, "", [])
    buffer.end()
    assert await read(buffer) == []


async def test_a_waiting_reader_is_woken() -> None:
    buffer = EventBuffer()
    reading = asyncio.create_task(read(buffer))
    await asyncio.sleep(0)
    buffer.add_delta(0, "a", [])
    buffer.end()
    assert await reading == [Delta(output_index=0, text="a")]


async def test_a_failure_comes_after_what_waits_and_is_final() -> None:
    buffer = EventBuffer()
    buffer.add(ACCEPTED)
    buffer.fail(UnavailableError("first"))
    buffer.fail(UnavailableError("second"))
    buffer.add(finished(0))
    buffer.add_delta(0, "late", [])
    assert await anext(buffer) == ACCEPTED
    with pytest.raises(UnavailableError, match="first"):
        await anext(buffer)
