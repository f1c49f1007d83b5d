"""Several generations as one: the choices of a list of prompts, numbered through.

Choice `prompt * n + output` is output `output` of prompt `prompt`. One that fails ends all.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence

from gateway.events import Event

Numbered = tuple[int, Event]  # the index of the generation, and what it says

_Queue = asyncio.Queue[Numbered | Exception | None]

# Bounds what is made ahead of a slow reader; the core merges what waits behind it.
_MAX_EVENTS_AHEAD = 16


async def merged(
    generations: Sequence[AsyncGenerator[Event, None]],
) -> AsyncGenerator[Numbered, None]:
    """The events of all, as they come; closing it closes all of them."""
    if len(generations) == 1:
        async with contextlib.aclosing(generations[0]) as events:
            async for event in events:
                yield 0, event
        return
    waiting = _Queue(_MAX_EVENTS_AHEAD)
    readers = [
        asyncio.create_task(_read(index, generation, waiting))
        for index, generation in enumerate(generations)
    ]
    try:
        num_open = len(readers)
        while num_open:
            match await waiting.get():
                case None:
                    num_open -= 1
                case Exception() as error:
                    raise error
                case item:
                    yield item
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)


async def _read(index: int, generation: AsyncGenerator[Event, None], waiting: _Queue) -> None:
    """Hands on the events of one generation, then how it ended: None or what it raised."""
    try:
        async with contextlib.aclosing(generation) as events:
            async for event in events:
                await waiting.put((index, event))
    except Exception as error:  # noqa: BLE001 - raised again by the reader of the queue
        await waiting.put(error)
    else:
        await waiting.put(None)
