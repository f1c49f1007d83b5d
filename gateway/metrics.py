"""What the gateway's /metrics shows: its open requests, and the load of each worker group.

Read from live objects at each scrape; nothing is kept here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from gateway.admission import Admission
from octavo.client.worker import WorkerClient

_WORKER_GAUGES: Sequence[tuple[str, str, Callable[[WorkerClient], float]]] = (
    ("octavo_worker_ready", "Whether the group serves this gateway.", lambda w: w.is_ready),
    ("octavo_worker_kv_blocks_used", "KV blocks in use.", lambda w: w.load.kv_blocks_used),
    ("octavo_worker_kv_blocks_total", "KV blocks in all.", lambda w: w.load.kv_blocks_total),
    ("octavo_worker_requests_running", "Requests in the batch.", lambda w: w.load.running),
    ("octavo_worker_requests_waiting", "Requests in the queue.", lambda w: w.load.waiting),
)


class GatewayCollector(Collector):
    """Collects from the admission and the workers' last reported loads."""

    def __init__(self, *, admission: Admission, workers: Sequence[WorkerClient]) -> None:
        self._admission = admission
        self._workers = workers

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The gauges as they are now; called from the listener's thread."""
        yield GaugeMetricFamily(
            "octavo_gateway_requests_open",
            "Requests that are open.",
            value=self._admission.num_requests,
        )
        for name, description, value in _WORKER_GAUGES:
            family = GaugeMetricFamily(name, description, labels=["worker"])
            for worker in self._workers:
                family.add_metric([worker.address], float(value(worker)))
            yield family


def gateway_registry(*, admission: Admission, workers: Sequence[WorkerClient]) -> CollectorRegistry:
    """A registry with the gateway's metrics."""
    registry = CollectorRegistry()
    registry.register(GatewayCollector(admission=admission, workers=workers))
    return registry
