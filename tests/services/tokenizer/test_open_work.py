"""What a process waits for before it ends."""

from __future__ import annotations

import asyncio
import time

from services.tokenizer.open_work import OpenWork


async def test_a_process_waits_for_what_is_open() -> None:
    work = OpenWork(quiet_s=0)
    await work.finished(10)
    with work.call():
        work.change(2)
        waiting = asyncio.create_task(work.finished(60))
        await asyncio.sleep(0)
        assert not waiting.done()
        work.change(-2)
        await asyncio.sleep(0)
        assert not waiting.done()
    async with asyncio.timeout(10):
        await waiting


async def test_what_begins_in_the_moment_of_quiet_is_waited_for_too() -> None:
    work = OpenWork(quiet_s=0.02)
    waiting = asyncio.create_task(work.finished(60))
    await asyncio.sleep(0)
    with work.call():
        done, _ = await asyncio.wait([waiting], timeout=0.1)
        assert not done
    async with asyncio.timeout(10):
        await waiting


async def test_but_not_longer_than_its_limit() -> None:
    work = OpenWork()
    work.change(1)
    began = time.monotonic()
    await work.finished(0.02)
    assert time.monotonic() - began < 10
