"""The parent of the template helper: one process, with limits, started again when it is lost."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import structlog

from octavo.errors import InvalidArgumentError
from octavo.tether import tethered
from services.tokenizer import template_process

log = structlog.get_logger()

T = TypeVar("T")

_SCRIPT = str(Path(template_process.__file__))


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

    async def start(self) -> None:
        """Starts the helper ahead of the first request; a template that is wrong is only logged,
        since a model can be served without one.
        """
        async with self._turn:
            try:
                await self._within_limit(self._started())
            except InvalidArgumentError as error:
                log.warning("chat template unusable", error=error.message)

    async def render(self, variables: dict[str, Any]) -> str:
        """The text that the template makes of `variables`. Raises InvalidArgumentError."""
        async with self._turn:
            return await self._within_limit(self._render(variables))

    async def close(self) -> None:
        """Ends the helper."""
        process, self._process = self._process, None
        if process is not None:
            if process.returncode is None:
                process.kill()
            # Not only wait(): the pipes' transports are closed when both ends were read to the end.
            await process.communicate()

    async def _render(self, variables: dict[str, Any]) -> str:
        process = await self._started()
        return await self._exchange(process, {"variables": variables, "max_bytes": self._max_bytes})

    async def _started(self) -> asyncio.subprocess.Process:
        if self._process is not None and self._process.returncode is None:
            return self._process
        await self.close()
        self._process = await asyncio.create_subprocess_exec(
            *tethered([sys.executable, "-I", _SCRIPT, str(self._memory_bytes)]),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        await self._exchange(self._process, {"template": self._template})
        return self._process

    async def _exchange(self, process: asyncio.subprocess.Process, value: dict[str, Any]) -> str:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(template_process.frame_of(value))
        await process.stdin.drain()
        header = await process.stdout.readexactly(template_process.HEADER.size)
        data = await process.stdout.readexactly(*template_process.HEADER.unpack(header))
        answer = json.loads(data)
        if "error" in answer:
            raise _template_error(answer["error"])
        return str(answer["text"])

    async def _within_limit(self, work: Coroutine[Any, Any, T]) -> T:
        """Awaits `work`; what goes past a limit costs the helper, not the service."""
        try:
            async with asyncio.timeout(self._time_limit_s):
                return await work
        except TimeoutError:
            await self.close()
            limit = f"{self._time_limit_s:g} s"
            raise _template_error(f"the template took longer than {limit}") from None
        except (asyncio.IncompleteReadError, ConnectionError):
            await self.close()
            raise _template_error("the template went past its memory limit") from None
        except asyncio.CancelledError:
            await self.close()  # an answer that nobody waits for would be read as the next one
            raise


def _template_error(cause: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"The chat template refused the conversation: {cause}",
        reason="CHAT_TEMPLATE_ERROR",
        metadata={"field": "chat.messages", "cause": cause[:512]},
    )
