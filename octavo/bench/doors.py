"""The ways into the product by name; each turns a job into what its client saw."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from octavo.bench.grpc_doors import open_session, open_stream, open_unary
from octavo.bench.sample import Sample
from octavo.bench.target import Target
from octavo.bench.workload import Job


class Door(Protocol):
    """What a load needs of a way in."""

    async def generate(self, job: Job) -> Sample:
        """Runs one request to its end; failures are in the sample."""


def _open_http(target: Target) -> AbstractAsyncContextManager[Door]:
    from octavo.bench.http_door import open_http  # noqa: PLC0415 - httpx is optional

    return open_http(target)


DOORS: Mapping[str, Callable[[Target], AbstractAsyncContextManager[Door]]] = {
    "unary": open_unary,
    "stream": open_stream,
    "session": open_session,
    "http": _open_http,
}
