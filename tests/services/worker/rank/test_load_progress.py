"""What the front and the log hear of a load."""

from __future__ import annotations

from structlog.testing import capture_logs

from services.worker.link.messages import Progress
from services.worker.rank.load_progress import LoadProgress


def test_the_front_hears_of_each_per_cent_and_the_log_of_time_left() -> None:
    sent: list[Progress] = []
    now = 100.0
    progress = LoadProgress(sent.append, clock=lambda: now)
    with capture_logs() as logs:
        for loaded in range(0, 10**9 + 1, 10**6):
            progress.report(loaded, 10**9)
            now += 0.01
    parts = [message.loaded_bytes for message in sent]
    assert parts == list(range(0, 10**9 + 1, 10**7))
    first, second = logs
    assert (first["loaded_mb"], first["total_mb"], first["left_s"]) == (500, 1000, 5)
    assert second["left_s"] == 0
