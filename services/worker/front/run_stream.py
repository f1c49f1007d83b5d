"""One Run call: reads a gateway's acts, and writes one response for each step that concerns it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from octavo.errors import InvalidArgumentError, invalid_field
from octavo.v1 import worker_pb2
from services.worker.front.attachment import Attachment
from services.worker.front.group import Group

Write = Callable[[worker_pb2.RunResponse], Awaitable[None]]
Requests = AsyncIterator[worker_pb2.RunRequest]


async def carry(group: Group, requests: Requests, write: Write) -> None:
    """Runs until the gateway has closed its side and all its requests ended; raises OctavoError.

    The reader never waits for the writer. However the call ends, what it leaves open is cancelled.
    """
    attachment = group.attach(await _read_attach(requests))
    reader = asyncio.create_task(_read_acts(group, attachment, requests))
    writer = asyncio.create_task(_write_responses(group, attachment, write))
    pending: set[asyncio.Future[None]] = {reader, writer, attachment.broken}
    try:
        while writer in pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    finally:
        group.detach(attachment)
        reader.cancel()
        writer.cancel()
        await asyncio.gather(reader, writer, return_exceptions=True)


async def _read_attach(requests: Requests) -> worker_pb2.Attach:
    first = await anext(requests, None)
    if first is None or first.WhichOneof("action") != "attach":
        raise InvalidArgumentError(
            "The first message of Run must be `attach`.", reason="ATTACH_REQUIRED"
        )
    if not first.attach.gateway_id:
        raise invalid_field("attach.gateway_id", first.attach.gateway_id, "at least one character")
    return first.attach


async def _read_acts(group: Group, attachment: Attachment, requests: Requests) -> None:
    async for request in requests:
        _act(group, attachment, request)
    attachment.close_when(lambda: group.num_open(attachment) == 0)


def _act(group: Group, attachment: Attachment, request: worker_pb2.RunRequest) -> None:
    action = request.WhichOneof("action")
    if action == "submit":
        if not request.submit.HasField("key"):
            raise InvalidArgumentError(
                "submit.key is required: without it the request cannot be answered.",
                reason="KEY_REQUIRED",
                metadata={"field": "submit.key"},
            )
        group.submit(attachment, request.submit)
    elif action == "cancel":
        outputs = [(one.key, one.output_index) for one in request.cancel.outputs]
        group.cancel(attachment, list(request.cancel.keys), outputs)
    else:
        raise InvalidArgumentError(
            "After the first message of Run comes `submit` or `cancel`.",
            reason="UNEXPECTED_ACTION",
            metadata={"field": action or "action"},
        )


async def _write_responses(group: Group, attachment: Attachment, write: Write) -> None:
    while (response := await attachment.next_response(lambda: group.load)) is not None:
        await write(response)
