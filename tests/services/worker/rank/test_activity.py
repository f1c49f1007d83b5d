"""What the rank says it does."""

from __future__ import annotations

from services.worker.rank.activity import Activity


def test_loading_then_idle_then_stepping_with_its_limit() -> None:
    activity = Activity(step_limit_ms=70)
    assert activity.heartbeat().activity == "loading"
    activity.begin_idle()
    assert activity.heartbeat().activity == "idle"
    assert activity.heartbeat().limit_ms == 0
    activity.begin_step()
    beat = activity.heartbeat()
    assert (beat.activity, beat.limit_ms) == ("stepping", 70)
    assert beat.activity_ms >= 0
