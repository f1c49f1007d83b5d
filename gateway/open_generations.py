"""The generations that are open, so that an operator, or the end of a drain, can end them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from gateway.cancellation import Cancellation
from octavo.errors import OctavoError
from octavo.rpc.admin import OpenRequest


class OpenGenerations:
    """In the order in which they came. Ids are the clients' to choose: several may have one."""

    def __init__(self) -> None:
        self._open: dict[Cancellation, OpenRequest] = {}
        self._end: OctavoError | None = None
        self._ended = asyncio.Event()

    @contextmanager
    def holding(self, request: OpenRequest, cancellation: Cancellation) -> Iterator[None]:
        """Knows the generation inside the block; `cancellation` is how it is ended."""
        self._open[cancellation] = request
        try:
            yield
        finally:
            del self._open[cancellation]

    def requests(self) -> Sequence[OpenRequest]:
        """All of them, oldest first."""
        return tuple(self._open.values())

    def abort(self, request_id: str, error: OctavoError) -> int:
        """Ends with `error` those that have exactly this id; how many they were."""
        found = [c for c, request in self._open.items() if request.request_id == request_id]
        for cancellation in found:
            cancellation.ask(error)
        return len(found)

    def end_all(self, error: OctavoError) -> None:
        """Ends what is still open with `error`, for good."""
        self._end = error
        self._ended.set()
        for cancellation in tuple(self._open):
            cancellation.ask(error)

    async def until_ended(self) -> OctavoError:
        """Waits for `end_all`; its error."""
        await self._ended.wait()
        assert self._end is not None
        return self._end
