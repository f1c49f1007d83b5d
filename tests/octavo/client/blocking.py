"""AsyncClient as a test of Client sees it: the same calls, each run to its end on a loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

import octavo

LIMIT_S = 10.0


class Blocking:
    """An object of asyncio whose coroutines are waited for; what it returns is wrapped alike."""

    def __init__(self, runner: asyncio.Runner, wrapped: Any) -> None:
        self._runner = runner
        self._wrapped = wrapped

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._wrapped, {"close": "aclose"}.get(name, name))
        if not callable(value):
            return value
        return lambda *args, **kwargs: self._call(lambda: value(*args, **kwargs))

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return self._call(self._wrapped.__anext__)
        except StopAsyncIteration:
            raise StopIteration from None

    def __enter__(self) -> Self:
        self._call(self._wrapped.__aenter__)
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._call(lambda: self._wrapped.__aexit__(error_type, error, None))

    def _call(self, function: Callable[[], Any]) -> Any:
        async def call() -> Any:
            value = function()
            return await value if asyncio.iscoroutine(value) else value

        value = self._runner.run(call())
        is_ours = type(value).__module__.startswith("octavo.client.async_")
        return Blocking(self._runner, value) if is_ours or hasattr(value, "__anext__") else value


class Harness:
    """A client of either kind, and how to wait beside it."""

    def __init__(self, address: str, runner: asyncio.Runner | None, **options: Any) -> None:
        self._runner = runner
        self.client: Any = (
            octavo.Client(address, **options)
            if runner is None
            else Blocking(runner, octavo.AsyncClient(address, **options))
        )

    def until(self, condition: Callable[[], bool]) -> None:
        """Waits for what the server's threads do."""
        give_up_at = time.monotonic() + LIMIT_S
        while not condition():
            assert time.monotonic() < give_up_at, "it never became so"
            if self._runner is not None:
                self._runner.run(asyncio.sleep(0.01))
            time.sleep(0.005)
