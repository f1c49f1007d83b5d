from __future__ import annotations

from octavo.launcher.readiness import loading_text
from octavo.v1 import worker_pb2


def _rank(number: int, loaded: int) -> worker_pb2.RankHealth:
    loading = worker_pb2.RankLoading(stage="weights", loaded_bytes=loaded, total_bytes=20_000_000)
    return worker_pb2.RankHealth(rank=number, loading=loading)


def test_the_slowest_rank_is_shown() -> None:
    health = worker_pb2.GetHealthResponse(ranks=[_rank(0, 9_000_000), _rank(1, 5_000_000)])
    assert loading_text(health) == "rank 1: weights 5.0 / 20.0 MB"


def test_one_rank_needs_no_number() -> None:
    health = worker_pb2.GetHealthResponse(ranks=[_rank(0, 5_000_000)])
    assert loading_text(health) == "weights 5.0 / 20.0 MB"
    assert loading_text(health, elapsed_s=4) == "weights 5.0 / 20.0 MB, 12 s left"


def test_without_a_loading_rank_the_group_speaks() -> None:
    assert loading_text(worker_pb2.GetHealthResponse(message="ranks start")) == "ranks start"
