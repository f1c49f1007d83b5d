"""What the gateway's /metrics reads from live objects at each scrape: nothing is kept here.

Its own open requests, and what each service last said of itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from gateway.admission import Admission
from octavo.client.services.tokenizer import TokenizerClient
from octavo.client.services.worker import WorkerClient

FamilyT = TypeVar("FamilyT", CounterMetricFamily, GaugeMetricFamily)
ClientT = TypeVar("ClientT", TokenizerClient, WorkerClient)


def _num_ranks(worker: WorkerClient) -> int:
    return 0 if worker.description is None else worker.description.ranks


_ADMISSION_GAUGES: Sequence[tuple[str, str, Callable[[Admission], float]]] = (
    ("octavo_gateway_requests_open", "Requests that are open.", lambda a: a.num_requests),
    ("octavo_gateway_request_bytes_open", "Bytes that they brought.", lambda a: a.num_bytes),
)
_WORKER_GAUGES: Sequence[tuple[str, str, Callable[[WorkerClient], float]]] = (
    ("octavo_worker_ready", "Whether the group serves this gateway.", lambda w: w.is_ready),
    ("octavo_worker_ranks", "Ranks of the group, as it last said.", _num_ranks),
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

    def collect(self) -> Iterable[Metric]:
        """The gauges as they are now; called from the listener's thread."""
        for name, description, read in _ADMISSION_GAUGES:
            yield GaugeMetricFamily(name, description, value=float(read(self._admission)))
        for name, description, value in _WORKER_GAUGES:
            family = GaugeMetricFamily(name, description, labels=["worker"])
            yield _filled(family, self._workers, value)
        yield _filled(
            CounterMetricFamily(
                "octavo_worker_generated_tokens",
                "Tokens that the group made for this gateway.",
                labels=["worker"],
            ),
            self._workers,
            lambda worker: worker.num_generated_tokens,
        )
        yield _filled(
            GaugeMetricFamily(
                "octavo_tokenizer_ready",
                "Whether the tokenizer serves this gateway.",
                labels=["tokenizer"],
            ),
            self._tokenizers,
            lambda tokenizer: tokenizer.is_ready,
        )


def _filled(
    family: FamilyT, clients: Sequence[ClientT], read: Callable[[ClientT], float]
) -> FamilyT:
    """The family with one sample for each address."""
    for client in clients:
        family.add_metric([client.address], float(read(client)))
    return family
