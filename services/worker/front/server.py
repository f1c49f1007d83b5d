"""WorkerService: handlers that hand over to the parts that do the work."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import grpc.aio

from octavo.v1 import worker_pb2, worker_pb2_grpc
from services.worker.front.description import Served, describe_worker
from services.worker.front.group import Group
from services.worker.front.health import describe_health
from services.worker.front.run_stream import carry

if TYPE_CHECKING:  # subscripts that exist in the stubs only
    Context = grpc.aio.ServicerContext[Any, Any]

SERVICE_NAME = "octavo.v1.WorkerService"


class WorkerService(worker_pb2_grpc.WorkerServiceServicer):
    """The group's gRPC face."""

    def __init__(self, group: Group, served: Served) -> None:
        self._group = group
        self._served = served

    async def Run(  # type: ignore[override]  # the stub also allows generators
        self, requests: AsyncIterator[worker_pb2.RunRequest], context: Context
    ) -> None:
        """Carries all requests of one gateway."""
        await carry(self._group, requests, context.write)

    async def GetWorker(
        self, request: worker_pb2.GetWorkerRequest, context: Context
    ) -> worker_pb2.GetWorkerResponse:
        """Describes the group."""
        return describe_worker(self._group, self._served)

    async def GetHealth(
        self, request: worker_pb2.GetHealthRequest, context: Context
    ) -> worker_pb2.GetHealthResponse:
        """Says how the group and its ranks are."""
        return describe_health(self._group)
