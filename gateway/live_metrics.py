"""What the gateway's /metrics reads from live objects at each scrape: nothing is kept here.

Its own open requests, and what each service last said of itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from gateway.admission import Admission
from octavo.client.tokenizer import TokenizerClient
from octavo.client.worker import WorkerClient

_ADMISSION_GAUGES: Sequence[tuple[str, str, Callable[[Admission], float]]] = (
    ("octavo_gateway_requests_open", "Requests that are open.", lambda a: a.num_requests),
    ("octavo_gateway_request_bytes_open", "Bytes that they brought.", lambda a: a.num_bytes),
)
_WORKER_GAUGES: Sequence[tuple[str, str, Callable[[WorkerClient], float]]] = (
    ("octavo_worker_ready", "Whether the group serves this gateway.", lambda w: w.is_ready),
    ("octavo_worker_kv_blocks_used", "KV blocks in use.", lambda w: w.load.kv_blocks_used),
    ("octavo_worker_kv_blocks_total", "KV blocks in all.", lambda w: w.load.kv_blocks_total),
    ("octavo_worker_requests_running", "Requests in the batch.", lambda w: w.load.running),
    ("octavo_worker_requests_waiting", "Requests in the queue.", lambda w: w.load.waiting),
    (
        "octavo_worker_waiting_prompt_tokens",
        "Prompt tokens in the queue.",
        lambda w: w.load.waiting_prompt_tokens,
    ),
)


class LiveCollector(Collector):
    """Collects from the admission and the clients of the other services."""

    def __init__(
        self,
        *,
        admission: Admission,
        workers: Sequence[WorkerClient],
        tokenizers: Sequence[TokenizerClient],
    ) -> None:
        self._admission = admission
        self._workers = workers
        self._tokenizers = tokenizers

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The gauges as they are now; called from the listener's thread."""
        for name, description, read in _ADMISSION_GAUGES:
            yield GaugeMetricFamily(name, description, value=float(read(self._admission)))
        for name, description, value in _WORKER_GAUGES:
            family = GaugeMetricFamily(name, description, labels=["worker"])
            for worker in self._workers:
                family.add_metric([worker.address], float(value(worker)))
            yield family
        ready = GaugeMetricFamily(
            "octavo_tokenizer_ready",
            "Whether the tokenizer serves this gateway.",
            labels=["tokenizer"],
        )
        for tokenizer in self._tokenizers:
            ready.add_metric([tokenizer.address], float(tokenizer.is_ready))
        yield ready
