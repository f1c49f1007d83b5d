"""The parent of the template helper: one process, with limits, started again when it is lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

import structlog

from octavo.errors import InvalidArgumentError, UnavailableError
from octavo.tether import tethered
from services.tokenizer import template_process

log = structlog.get_logger()

T = TypeVar("T")

_SCRIPT = str(Path(template_process.__file__))
# Starting Python and compiling a template take a tenth of a second; a busy machine takes longer.
_START_LIMIT_S = 30.0
_EXIT_S = 5.0  # for a process that has closed its pipes
_RETRY_DELAY_MS = 1_000
# Texts that are rendered to be compared with the first may have a break around each character.
_MOST_GROWTH = 8


class TemplateRunner:
    """Renders one chat template, one conversation at a time."""

    def __init__(
        self, template: str, *, time_limit_s: float, memory_bytes: int, max_bytes: int
    ) -> None:
        self._template = template
        self._time_limit_s = time_limit_s
        self._memory_bytes = memory_bytes
        self._max_bytes = max_bytes
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._closed = False

    async def start(self) -> None:
        """Starts the helper ahead of the first request; a template that is wrong is only logged,
        since a model can be served without one.
        """
        async with self._turn:
            try:
                await self._started()
            except InvalidArgumentError as error:
                log.warning("chat template unusable", error=error.message)

    async def render(self, variables: Sequence[dict[str, Any]]) -> Sequence[str | None]:
        """The text that the template makes of each set of variables; None where it refuses one but
        the first. Raises InvalidArgumentError where it refuses the first.
        """
        request = {
            "variables": variables,
            "max_bytes": self._max_bytes,
            "max_other_bytes": self._max_bytes * _MOST_GROWTH,
        }
        frame = await asyncio.to_thread(template_process.frame_of, request)
        async with self._turn:
            data = await self._answered(frame)
        answer = await asyncio.to_thread(json.loads, data)
        if "error" in answer:
            raise _template_error(answer["error"])
        texts: list[str | None] = answer["texts"]
        return texts

    async def _answered(self, frame: bytes) -> bytes:
        """The helper's answer. One that was killed from outside gets a successor, once."""
        try:
            process = await self._started()
            return await self._within(self._time_limit_s, _exchange(process, frame))
        except UnavailableError:
            process = await self._started()
            return await self._within(self._time_limit_s, _exchange(process, frame))

    async def close(self) -> None:
        """Ends the helper for good; whoever waits for it is answered with an error."""
        self._closed = True
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
        async with self._turn:
            await self._end()

    async def _was_killed(self) -> bool:
        """Whether the helper, which closed its pipes, was killed: by the kernel or an operator, for
        its own limits end it otherwise. Asked before `_end`, whose signal may take the status.
        """
        assert self._process is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_EXIT_S):
                await self._process.wait()
        return self._process.returncode == -signal.SIGKILL

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            if process.returncode is None:
                process.kill()
            # Not only wait(): the pipes' transports are closed when both ends were read to the end.
            await process.communicate()

    async def _started(self) -> asyncio.subprocess.Process:
        if self._process is not None and self._process.returncode is None:
            return self._process
        if self._closed:
            raise UnavailableError("The tokenizer is being stopped.", reason="DRAINING")
        await self._end()
        self._process = process = await asyncio.create_subprocess_exec(
            *tethered([sys.executable, "-I", _SCRIPT, str(self._memory_bytes)]),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        frame = template_process.frame_of({"template": self._template})
        answer = json.loads(await self._within(_START_LIMIT_S, _exchange(process, frame)))
        if "error" in answer:
            await self._end()
            raise _template_error(answer["error"])
        return process

    async def _within(self, limit_s: float, work: Coroutine[Any, Any, T]) -> T:
        """Awaits `work`; what goes past a limit costs the helper, not the service."""
        try:
            async with asyncio.timeout(limit_s):
                return await work
        except TimeoutError:
            await self._end()
            raise _template_error(f"the template took longer than {limit_s:g} s") from None
        except (asyncio.IncompleteReadError, ConnectionError):
            was_killed = await self._was_killed()
            await self._end()
            if was_killed:
                raise _helper_killed() from None
            raise _template_error("the template went past its memory limit") from None
        except asyncio.CancelledError:
            await self._end()  # an answer that nobody waits for would be read as the next one
            raise


async def _exchange(process: asyncio.subprocess.Process, frame: bytes) -> bytes:
    """Sends one frame; the JSON of the one that answers it."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(frame)
    await process.stdin.drain()
    header = await process.stdout.readexactly(template_process.HEADER.size)
    return await process.stdout.readexactly(*template_process.HEADER.unpack(header))


def _helper_killed() -> UnavailableError:
    return UnavailableError(
        "The process that renders chat templates was killed.",
        reason="TEMPLATE_HELPER_KILLED",
        retry_delay_ms=_RETRY_DELAY_MS,
    )


def _template_error(cause: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"The chat template refused the conversation: {cause}",
        reason="CHAT_TEMPLATE_ERROR",
        metadata={"field": "chat.messages", "cause": cause[:512]},
    )
