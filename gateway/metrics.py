"""What the gateway counts; what it reads at each scrape is in live_metrics.py."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from gateway.events import Delta, Event
from gateway.request_record import RequestRecord
from octavo.bucket_counts import BucketCounts
from octavo.metrics import buckets, process_registry

_FIRST_TOKEN_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60)
_INTER_TOKEN_S = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 5)
_REQUEST_S = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300)


class GatewayMetrics:
    """The metrics of one gateway process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = process_registry("gateway")
        self._requests = Counter(
            "octavo_gateway_requests",
            "Requests that have ended.",
            ["method", "model", "outcome"],
            registry=registry,
        )
        self._errors = Counter(
            "octavo_gateway_errors",
            "Requests that were refused or failed.",
            ["reason"],
            registry=registry,
        )
        self._request_s = Histogram(
            "octavo_gateway_request_seconds",
            "Time from a request's arrival to its end.",
            ["method"],
            buckets=_REQUEST_S,
            registry=registry,
        )
        self._prompt_tokens = Counter(
            "octavo_gateway_prompt_tokens",
            "Prompt tokens that were sent to workers.",
            ["model"],
            registry=registry,
        )
        self._generated_tokens = Counter(
            "octavo_gateway_generated_tokens",
            "Tokens that requests were given.",
            ["model"],
            registry=registry,
        )
        self._first_token_s = Histogram(
            "octavo_gateway_first_token_seconds",
            "Time from a request's arrival to its first delta.",
            ["model"],
            buckets=_FIRST_TOKEN_S,
            registry=registry,
        )
        # Counted for each delta of each stream, where the library's own costs too much.
        self._inter_token_s: dict[str, BucketCounts] = {}
        registry.register(_InterTokenCollector(self._inter_token_s))
        self.sessions_open = Gauge(
            "octavo_gateway_sessions_open", "gRPC sessions that are open.", registry=registry
        )

    def count_request(self, record: RequestRecord) -> None:
        """Counts a request that has ended."""
        self._requests.labels(record.method, record.model, record.outcome).inc()
        self._request_s.labels(record.method).observe(record.seconds)
        if record.outcome in ("refused", "failed"):
            self._errors.labels(record.reason).inc()

    def count_tokens(self, model: str, prompt: int, generated: int) -> None:
        """Counts the tokens of a generation that has ended."""
        self._prompt_tokens.labels(model).inc(prompt)
        self._generated_tokens.labels(model).inc(generated)

    def delta_times(self, model: str, arrived_at: float) -> DeltaTimes:
        """Observes the deltas of one generation."""
        later = self._inter_token_s.setdefault(model, BucketCounts(_INTER_TOKEN_S))
        return DeltaTimes(self._first_token_s.labels(model), later, arrived_at)


class DeltaTimes:
    """First-token and inter-token time of one generation, as its client's door takes the events."""

    def __init__(self, first: Histogram, later: BucketCounts, arrived_at: float) -> None:
        self._first = first
        self._later = later
        self._arrived_at = arrived_at
        self._last_at: dict[int, float] = {}

    def note(self, event: Event) -> None:
        """Takes the next event."""
        if not isinstance(event, Delta):
            return
        now = time.monotonic()
        if not self._last_at:
            self._first.observe(now - self._arrived_at)
        if (last_at := self._last_at.get(event.output_index)) is not None:
            self._later.add(now - last_at)
        self._last_at[event.output_index] = now


class _InterTokenCollector(Collector):
    """Shows the inter-token times of each model."""

    def __init__(self, times: Mapping[str, BucketCounts]) -> None:
        self._times = times

    def collect(self) -> Iterable[Metric]:
        family = HistogramMetricFamily(
            "octavo_gateway_inter_token_seconds",
            "Time between two deltas of one output.",
            labels=["model"],
        )
        for model, times in tuple(self._times.items()):
            family.add_metric([model], buckets(times.bounds, times.counts), times.sum)
        yield family
