"""octavo.v1.AdminService and channelz on a listener of their own: who reaches it, may do it all."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import grpc.aio
import structlog
from grpc_channelz.v1 import channelz

import octavo
from octavo.build_info import commit
from octavo.errors import (
    AbortedError,
    NotFoundError,
    OctavoError,
    ResourceExhaustedError,
    invalid_field,
)
from octavo.rpc.profile import StackSampler
from octavo.rpc.server import RpcServer
from octavo.rpc.shutdown import Shutdown
from octavo.v1 import admin_pb2 as pb
from octavo.v1 import admin_pb2_grpc

log = structlog.get_logger()

if TYPE_CHECKING:  # subscripts that exist in the stubs only
    Context = grpc.aio.ServicerContext[Any, Any]

ADMIN_SERVICE = "octavo.v1.AdminService"
CHANNELZ_SERVICE = "grpc.channelz.v1.Channelz"
MAX_LISTED = 1_000
MAX_PROFILE_MS = 60_000
_DEFAULT_PROFILE_MS = 5_000
_CLOSE_GRACE_S = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenRequest:
    """One that is open; `began_at` is on time.monotonic()."""

    request_id: str
    began_at: float


class Administered(Protocol):
    """What a process lets its operator see and do."""

    @property
    def is_serving(self) -> bool:
        """Whether it takes requests."""

    @property
    def is_draining(self) -> bool:
        """Whether it is about to end."""

    @property
    def num_open(self) -> int:
        """Counts what it would finish before it ends."""

    def open_requests(self) -> Sequence[OpenRequest]:
        """The requests among that, oldest first."""

    def abort(self, request_id: str, error: OctavoError) -> int:
        """Ends with `error` the requests that have exactly this id; how many they were."""


class AdminService(admin_pb2_grpc.AdminServiceServicer):
    """The calls of one process's operator."""

    def __init__(self, service: str, process: Administered, shutdown: Shutdown) -> None:
        self._service = service
        self._process = process
        self._shutdown = shutdown
        self._started_at = time.monotonic()
        self._loop_thread = threading.get_ident()
        self._profiling = False

    async def GetStatus(
        self, request: pb.GetStatusRequest, context: Context
    ) -> pb.GetStatusResponse:
        """Says how the process is and what is open."""
        now = time.monotonic()
        return pb.GetStatusResponse(
            service=self._service,
            version=octavo.__version__,
            commit=commit(),
            pid=os.getpid(),
            uptime_ms=int(1_000 * (now - self._started_at)),
            state=self._state(),
            open_request_count=self._process.num_open,
            open_requests=[
                pb.OpenRequest(
                    request_id=found.request_id, age_ms=int(1_000 * (now - found.began_at))
                )
                for found in self._process.open_requests()[:MAX_LISTED]
            ],
        )

    async def Drain(self, request: pb.DrainRequest, context: Context) -> pb.DrainResponse:
        """Starts to drain."""
        num_open = self._process.num_open
        log.info("drain asked for", open=num_open)
        self._shutdown.ask()
        return pb.DrainResponse(open_request_count=num_open)

    async def Abort(self, request: pb.AbortRequest, context: Context) -> pb.AbortResponse:
        """Ends the requests that have an id."""
        if not request.request_id:
            raise invalid_field("request_id", request.request_id, "at least one character")
        error = AbortedError("The request was aborted by the operator.")
        num_aborted = self._process.abort(request.request_id, error)
        log.info("abort asked for", request_id=request.request_id, aborted=num_aborted)
        if not num_aborted:
            raise NotFoundError(
                f"No request with the id {request.request_id!r} is open here.",
                reason="REQUEST_NOT_FOUND",
                metadata={"field": "request_id", "value": request.request_id},
            )
        return pb.AbortResponse(aborted_request_count=num_aborted)

    async def Profile(self, request: pb.ProfileRequest, context: Context) -> pb.ProfileResponse:
        """Samples the event loop's thread."""
        given = request.HasField("duration_ms")
        duration_ms = request.duration_ms if given else _DEFAULT_PROFILE_MS
        if not 1 <= duration_ms <= MAX_PROFILE_MS:
            raise invalid_field("duration_ms", duration_ms, f"1 to {MAX_PROFILE_MS}")
        if self._profiling:
            raise ResourceExhaustedError("A profile is being taken.", reason="PROFILE_RUNNING")
        sampler = StackSampler(self._loop_thread)
        self._profiling = True
        try:
            await asyncio.to_thread(sampler.sample, duration_ms / 1_000)
        finally:
            sampler.stop()
            self._profiling = False
        return pb.ProfileResponse(
            collapsed_stacks=sampler.collapsed(), sample_count=sampler.num_samples
        )

    def _state(self) -> pb.ProcessState.ValueType:
        if self._process.is_draining:
            return pb.PROCESS_STATE_DRAINING
        serving = self._process.is_serving
        return pb.PROCESS_STATE_SERVING if serving else pb.PROCESS_STATE_NOT_SERVING


@asynccontextmanager
async def administered(
    address: str | None, service: str, process: Administered, shutdown: Shutdown
) -> AsyncIterator[Mapping[str, int]]:
    """Serves the admin calls inside the block, where an address is given; `admin_port` if so.

    Raises AddressInUseError.
    """
    if address is None:
        yield {}
        return
    servicer = AdminService(service, process, shutdown)
    server = RpcServer(
        address=address,
        services={
            ADMIN_SERVICE: lambda on: admin_pb2_grpc.add_AdminServiceServicer_to_server(
                servicer, on
            ),
            CHANNELZ_SERVICE: channelz.add_channelz_servicer,
        },
    )
    port = await server.start()
    await server.set_serving(True)
    log.info("admin calls are taken", address=address, port=port)
    try:
        yield {"admin_port": port}
    finally:
        await server.stop(_CLOSE_GRACE_S)
