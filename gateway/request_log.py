"""One line in the log for each request that has ended, and its place in the counters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

import structlog

from gateway.metrics import GatewayMetrics
from gateway.request_record import RequestRecord, make_current
from octavo.rpc.call_log import logged_call
from octavo.rpc.request_id import bind_request_id, new_request_id, request_id_of

if TYPE_CHECKING:
    from octavo.rpc.call_log import Context

log = structlog.get_logger()

# Its requests have lines of their own.
_SESSION = "OpenSession"


class RequestLog:
    """Opens the records of requests, and closes them with a line."""

    def __init__(self, metrics: GatewayMetrics) -> None:
        self._metrics = metrics

    def call(self, method: str, context: Context) -> AbstractContextManager[None]:
        """Observes a call of the gRPC door."""
        name = method.rpartition("/")[-1]
        if name == _SESSION:
            return self._session(method, context)
        return self._single(name, context)

    @contextmanager
    def _session(self, method: str, context: Context) -> Iterator[None]:
        with self._metrics.sessions_open.track_inprogress(), logged_call(method, context):
            yield

    @contextmanager
    def _single(self, name: str, context: Context) -> Iterator[None]:
        bind_request_id(request_id_of(context) or new_request_id())
        with self.request(name):
            yield

    @contextmanager
    def request(self, method: str) -> Iterator[RequestRecord]:
        """One request, from its arrival to its end: what is raised is how it failed."""
        record = RequestRecord(method)
        make_current(record)
        try:
            with record.noting_failures():
                yield record
        finally:
            self._metrics.count_request(record)
            log.info("request", **record.fields())
