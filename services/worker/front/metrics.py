"""The group as Prometheus reads it: the load of its last step, its ranks, and what is open."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from octavo.metrics import buckets
from services.worker.front.group import SERVING, Group
from services.worker.front.rank_record import RankRecord
from services.worker.link.step_times import STEP_BOUNDS_S

_GAUGES: Sequence[tuple[str, str, Callable[[Group], float]]] = (
    ("ready", "Whether requests are taken.", lambda g: g.state == SERVING),
    ("requests_running", "Requests in the batch.", lambda g: g.load.running),
    ("requests_waiting", "Requests in the queue.", lambda g: g.load.waiting),
    (
        "waiting_prompt_tokens",
        "Prompt tokens in the queue.",
        lambda g: g.load.waiting_prompt_tokens,
    ),
    ("kv_blocks_used", "KV blocks in use.", lambda g: g.load.kv_blocks_used),
    ("kv_blocks_total", "KV blocks in all.", lambda g: g.load.kv_blocks_total),
    ("requests_open", "Requests that are open.", lambda g: g.num_requests),
    ("streams_open", "Gateways that are attached.", lambda g: g.num_attachments),
)
_COUNTERS: Sequence[tuple[str, str, Callable[[Group], float]]] = (
    ("steps", "Steps of this generation of ranks.", lambda g: g.load.step),
    ("preemptions", "Preemptions of this generation of ranks.", lambda g: g.load.preemptions),
    ("generations", "Generations of ranks that were started.", lambda g: g.num_generations),
)


class GroupCollector(Collector):
    """Reads the group when it is asked; nothing is counted twice."""

    def __init__(self, group: Group) -> None:
        self._group = group

    def collect(self) -> Iterator[Metric]:
        """The families as they are now; called from the listener's thread."""
        for name, text, read in _GAUGES:
            yield GaugeMetricFamily(f"octavo_worker_{name}", text, value=float(read(self._group)))
        for name, text, read in _COUNTERS:
            yield CounterMetricFamily(f"octavo_worker_{name}", text, value=float(read(self._group)))
        yield from _rank_families(self._ranks())

    def _ranks(self) -> list[RankRecord]:
        generation = self._group.generation
        return [] if generation is None else list(generation.ranks.values())


def _rank_families(ranks: Sequence[RankRecord]) -> Iterator[Metric]:
    """What each rank last said of itself, since its start."""
    steps = HistogramMetricFamily("octavo_worker_step_seconds", "Time of a step.", labels=["rank"])
    dropped = CounterMetricFamily(
        "octavo_worker_rank_log_lines_dropped",
        "Lines of a rank's log that could not be written.",
        labels=["rank"],
    )
    for record in ranks:
        beat, labels = record.heartbeat, [str(record.rank)]
        dropped.add_metric(labels, beat.log_lines_dropped)
        if beat.step_counts:
            steps.add_metric(labels, buckets(STEP_BOUNDS_S, beat.step_counts), beat.steps_s)
    yield steps
    yield dropped
