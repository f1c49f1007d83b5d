"""How the group and each of its ranks are, as GetHealth says it."""

from __future__ import annotations

from octavo.v1 import worker_pb2
from services.worker.front.group import Group
from services.worker.front.rank_record import RankRecord


def describe_health(group: Group) -> worker_pb2.GetHealthResponse:
    """The state of this moment."""
    return worker_pb2.GetHealthResponse(
        state=group.state,
        message=group.message,
        ranks=[_describe_rank(group, rank) for rank in range(group.num_ranks)],
        generation=group.num_generations,
        load=group.load,
    )


def _describe_rank(group: Group, rank: int) -> worker_pb2.RankHealth:
    health = worker_pb2.RankHealth(rank=rank, last_failure=group.last_failures.get(rank, ""))
    record = None if group.generation is None else group.generation.ranks.get(rank)
    if record is None:
        health.loading.stage = "starting"
    elif record.is_dead():
        health.lost.cause = record.end_cause
    else:
        health.pid = record.pid
        health.heartbeat_age_ms = int(record.heartbeat_age_s * 1000)
        _set_activity(health, record)
    return health


def _set_activity(health: worker_pb2.RankHealth, record: RankRecord) -> None:
    if record.heartbeat.activity == "loading":
        health.loading.stage = record.progress.stage
        health.loading.loaded_bytes = record.progress.loaded_bytes
        health.loading.total_bytes = record.progress.total_bytes
    elif record.heartbeat.activity == "stepping":
        health.stepping.stepping_ms = record.activity_ms
        health.stepping.limit_ms = record.heartbeat.limit_ms
    else:
        health.idle.idle_ms = record.activity_ms
