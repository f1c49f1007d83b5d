"""The group at /metrics."""

from __future__ import annotations

from typing import cast

from prometheus_client import CollectorRegistry, generate_latest

from octavo.bucket_counts import BucketCounts
from octavo.v1 import worker_pb2
from services.worker.front.group import SERVING, Group
from services.worker.front.metrics import GroupCollector
from services.worker.front.rank_record import RankRecord
from services.worker.link.messages import Heartbeat
from services.worker.link.step_times import STEP_BOUNDS_S


class FakeRank:
    def __init__(self, heartbeat: Heartbeat) -> None:
        self.rank = 0
        self.heartbeat = heartbeat


class FakeGeneration:
    def __init__(self) -> None:
        self.ranks: dict[int, RankRecord] = {}


class FakeGroup:
    def __init__(self) -> None:
        self.state = SERVING
        self.num_requests = 8
        self.num_attachments = 9
        self.num_generations = 10
        self.generation = FakeGeneration()
        self.load = worker_pb2.Load(
            step=1,
            running=2,
            waiting=3,
            waiting_prompt_tokens=4,
            kv_blocks_used=5,
            kv_blocks_total=6,
            preemptions=7,
        )


def samples(group: FakeGroup) -> list[str]:
    registry = CollectorRegistry()
    registry.register(GroupCollector(cast(Group, group)))
    lines = generate_latest(registry).decode().splitlines()
    return [line.removeprefix("octavo_worker_") for line in lines if not line.startswith("#")]


def test_every_number_of_the_load_is_there() -> None:
    assert samples(FakeGroup()) == [
        "ready 1.0",
        "requests_running 2.0",
        "requests_waiting 3.0",
        "waiting_prompt_tokens 4.0",
        "kv_blocks_used 5.0",
        "kv_blocks_total 6.0",
        "requests_open 8.0",
        "streams_open 9.0",
        "steps_total 1.0",
        "preemptions_total 7.0",
        "generations_total 10.0",
    ]


def test_the_times_of_steps_are_those_that_the_rank_counted() -> None:
    times = BucketCounts(STEP_BOUNDS_S)
    for seconds in (0.0005, 0.01, 0.011, 100):
        times.add(seconds)
    group = FakeGroup()
    beat = Heartbeat(
        activity="idle",
        activity_ms=0,
        limit_ms=0,
        step_counts=times.counts,
        steps_s=times.sum,
        log_lines_dropped=2,
    )
    group.generation.ranks[0] = cast(RankRecord, FakeRank(beat))
    lines = samples(group)
    assert 'step_seconds_bucket{le="0.001",rank="0"} 1.0' in lines
    assert 'step_seconds_bucket{le="0.01",rank="0"} 2.0' in lines
    assert 'step_seconds_bucket{le="0.02",rank="0"} 3.0' in lines
    assert f'step_seconds_bucket{{le="{STEP_BOUNDS_S[-1]}",rank="0"}} 3.0' in lines
    assert 'step_seconds_bucket{le="+Inf",rank="0"} 4.0' in lines
    assert 'step_seconds_count{rank="0"} 4.0' in lines
    assert f'step_seconds_sum{{rank="0"}} {times.sum}' in lines
    assert 'rank_log_lines_dropped_total{rank="0"} 2.0' in lines
