"""Metrics of every process: what all of them have, and the listener that serves them at /metrics.

Prometheus text. docs/operating.md lists every name; a test compares.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Sequence
from typing import Self

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

import octavo
from octavo.build_info import commit
from octavo.logs import num_dropped_lines
from octavo.metrics_listener import MetricsListener
from octavo.rpc.server import AddressInUseError


def process_registry(service: str) -> CollectorRegistry:
    """A new registry with what every process has: its build, its resources, its lost log lines."""
    # Else each counter brings a second series that nobody reads.
    disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no types
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    registry.register(_ServiceCollector(service))
    return registry


def buckets(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    """The buckets of BucketCounts as HistogramMetricFamily takes them."""
    names = [*map(floatToGoString, bounds), "+Inf"]
    return list(zip(names, itertools.accumulate(counts), strict=True))


class _ServiceCollector(Collector):
    """What Octavo's processes know of themselves."""

    def __init__(self, service: str) -> None:
        self._labels = {"service": service, "version": octavo.__version__, "commit": commit()}

    def collect(self) -> Iterable[Metric]:
        build = GaugeMetricFamily("octavo_build_info", "Which build runs.", labels=[*self._labels])
        build.add_metric([*self._labels.values()], 1)
        yield build
        yield CounterMetricFamily(
            "octavo_log_lines_dropped",
            "Lines of logs that could not be written.",
            value=num_dropped_lines(),
        )


class MetricsServer:
    """Serves a registry over HTTP from a thread of its own."""

    def __init__(self, server: MetricsListener, thread: threading.Thread) -> None:
        self._server = server
        self._thread = thread

    @classmethod
    def start(cls, registry: CollectorRegistry, host: str, port: int) -> Self:
        """Listens on host:port (port 0: a free one). Raises AddressInUseError."""
        try:
            server = MetricsListener(host, port, registry)
        except OSError as error:
            raise AddressInUseError(f"cannot listen on {host}:{port}: {error.strerror}") from error
        thread = threading.Thread(target=server.serve_forever, daemon=True, name="metrics")
        thread.start()
        return cls(server, thread)

    @property
    def port(self) -> int:
        """The port that is bound."""
        return self._server.server_port

    def close(self) -> None:
        """Stops listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
