"""From events to HTTP: a stream that follows them, or one JSON answer at their end.

Both end the generation as soon as the client is gone.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from starlette.types import Receive, Scope, Send

from gateway.answer_size import AnswerSize
from gateway.events import Accepted, Delta, Event, Finished, Token, Usage
from gateway.openai.answer_format import AnswerFormat, Choice
from gateway.openai.disconnect import ClientGoneError, until_disconnected
from gateway.openai.error_answers import note_failure
from gateway.openai.errors import ApiError, api_error, internal
from gateway.openai.event_stream import DONE, EventStream, StalledReaderError, error_event
from gateway.openai.json_text import json_answer
from gateway.openai.limits import HttpLimits
from gateway.openai.merged_generation import Numbered, merged
from gateway.request_record import current_record
from octavo.errors import OctavoError, ResourceExhaustedError

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Job:
    """What an answer is made from. `outputs_each` is n: the choices of one prompt.

    `start` makes the generations, one a prompt; nothing runs before it is called. `field_names`
    are, for each, the names that the client used where it had a choice.
    """

    start: Callable[[], list[AsyncGenerator[Event, None]]]
    format: AnswerFormat
    outputs_each: int
    field_names: Sequence[Mapping[str, str]]
    limits: HttpLimits

    def events(self) -> contextlib.aclosing[AsyncGenerator[Numbered, None]]:
        """The events of all prompts, to be closed; errors of the core leave as ApiError."""
        generations = zip(self.start(), self.field_names, strict=True)
        return contextlib.aclosing(merged([_named(events, names) for events, names in generations]))


class WholeAnswer:
    """One JSON answer, an ASGI application."""

    def __init__(self, job: Job) -> None:
        self._job = job

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = await until_disconnected(receive, self._collected())
        await json_answer(answer)(scope, receive, send)

    async def _collected(self) -> dict[str, Any]:
        choices: dict[int, Choice] = {}
        usage: list[Usage] = []
        size = AnswerSize()
        async with self._job.events() as events:
            async for prompt, event in events:
                first = prompt * self._job.outputs_each
                match event:
                    case Accepted():
                        for index in range(first, first + self._job.outputs_each):
                            size.add(event.prompt_tokens)
                            self._job.format.opening(index, event)
                    case Delta():
                        choice = choices.setdefault(first + event.output_index, Choice())
                        size.add(event.tokens, event.text)
                        choice.texts.append(event.text)
                        choice.tokens.extend(event.tokens)
                    case Finished():
                        choice = choices.setdefault(first + event.output_index, Choice())
                        choice.reason = event.reason
                    case Usage():
                        usage.append(event)
        return self._job.format.whole(choices, usage)


class StreamedAnswer:
    """Server-sent events, an ASGI application."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._without_text: dict[int, list[Token]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        stream = EventStream(send, self._job.limits)
        try:
            await until_disconnected(receive, self._write(stream))
        except ClientGoneError:
            log.debug("client gone")
        except StalledReaderError:
            # Nothing more can be said; the response stays without its end, so the server cuts it.
            current_record().fail_with(ResourceExhaustedError("", reason="SLOW_READER"))

    async def _write(self, stream: EventStream) -> None:
        try:
            async with stream.pinging(), self._job.events() as events:
                usage = await self._follow(events, stream)
        except ApiError as error:
            await _end_with(error, stream)
        except StalledReaderError:
            raise
        except Exception:
            log.exception("stream failed")
            await _end_with(internal(), stream)
        else:
            await stream.end(self._job.format.usage(usage) + DONE)

    async def _follow(
        self, events: AsyncGenerator[Numbered, None], stream: EventStream
    ) -> list[Usage]:
        usage: list[Usage] = []
        async for prompt, event in events:
            if isinstance(event, Usage):
                usage.append(event)
            elif chunks := self._chunks(prompt * self._job.outputs_each, event):
                await stream.write(chunks)
        return usage

    def _chunks(self, first: int, event: Accepted | Delta | Finished) -> bytes:
        """The chunks for an event of the prompt whose first choice is `first`."""
        shape = self._job.format
        match event:
            case Accepted():
                indexes = range(first, first + self._job.outputs_each)
                return b"".join(shape.opening(index, event) for index in indexes)
            case Delta():
                index = first + event.output_index
                tokens = [*self._without_text.pop(index, ()), *event.tokens]
                if event.text:
                    return shape.text(index, event.text, tokens)
                if tokens:  # they come with the text that they make
                    self._without_text[index] = tokens
                return b""
            case Finished():
                index = first + event.output_index
                return shape.finish(index, event.reason, self._without_text.pop(index, ()))


async def _named(
    generation: AsyncGenerator[Event, None], names: Mapping[str, str]
) -> AsyncGenerator[Event, None]:
    """The events; an error speaks of fields as the client does."""
    try:
        async with contextlib.aclosing(generation) as events:
            async for event in events:
                yield event
    except OctavoError as error:
        raise api_error(error, names) from error


async def _end_with(error: ApiError, stream: EventStream) -> None:
    """As a status while there is none yet, else as the last event."""
    if not stream.has_started:
        raise error
    note_failure(error)
    await stream.end(error_event(error))
