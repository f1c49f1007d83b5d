"""The group's load, as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from octavo.v1 import worker_pb2

_GAUGES = (
    ("requests_running", "running", "Requests in the batch."),
    ("requests_waiting", "waiting", "Requests in the queue."),
    ("waiting_prompt_tokens", "waiting_prompt_tokens", "Prompt tokens in the queue."),
    ("kv_blocks_used", "kv_blocks_used", "KV blocks in use."),
    ("kv_blocks_total", "kv_blocks_total", "KV blocks in all."),
)
_COUNTERS = (
    ("steps", "step", "Steps of this generation of ranks."),
    ("preemptions", "preemptions", "Preemptions of this generation of ranks."),
)


class LoadCollector(Collector):
    """Reads the load of the last step when it is asked; nothing is counted twice."""

    def __init__(self, load: Callable[[], worker_pb2.Load]) -> None:
        self._load = load

    def collect(self) -> Iterator[Metric]:
        """One family for each number of the load."""
        load = self._load()
        for name, field, text in _GAUGES:
            yield GaugeMetricFamily(f"octavo_worker_{name}", text, value=getattr(load, field))
        for name, field, text in _COUNTERS:
            yield CounterMetricFamily(f"octavo_worker_{name}", text, value=getattr(load, field))


def load_registry(load: Callable[[], worker_pb2.Load]) -> CollectorRegistry:
    """A registry with the load alone."""
    registry = CollectorRegistry()
    registry.register(LoadCollector(load))
    return registry
