"""A cancel follows the work, and does not cut it off."""

from __future__ import annotations

import asyncio

import pytest

from services.worker.front.uninterrupted import uninterrupted


async def test_the_result_is_that_of_the_work() -> None:
    async def work() -> int:
        return 3

    assert await uninterrupted(work()) == 3


async def test_a_cancel_waits_for_the_work() -> None:
    begun, may_end, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        await may_end.wait()
        ended.set()

    task = asyncio.create_task(uninterrupted(work()))
    await begun.wait()
    task.cancel()
    asyncio.get_running_loop().call_soon(may_end.set)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_what_the_work_raises_is_raised() -> None:
    async def work() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await uninterrupted(work())
