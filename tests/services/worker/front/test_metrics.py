"""The load at /metrics."""

from __future__ import annotations

from prometheus_client import generate_latest

from octavo.v1 import worker_pb2
from services.worker.front.metrics import load_registry


def test_every_number_of_the_load_is_there() -> None:
    load = worker_pb2.Load(
        step=1,
        running=2,
        waiting=3,
        waiting_prompt_tokens=4,
        kv_blocks_used=5,
        kv_blocks_total=6,
        preemptions=7,
    )
    lines = generate_latest(load_registry(lambda: load)).decode().splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        "octavo_worker_requests_running 2.0",
        "octavo_worker_requests_waiting 3.0",
        "octavo_worker_waiting_prompt_tokens 4.0",
        "octavo_worker_kv_blocks_used 5.0",
        "octavo_worker_kv_blocks_total 6.0",
        "octavo_worker_steps_total 1.0",
        "octavo_worker_preemptions_total 7.0",
    ]
