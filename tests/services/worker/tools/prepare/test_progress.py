from __future__ import annotations

import io

from octavo.status_line import StatusLine
from services.worker.tools.prepare.progress import Progress, show_on


def test_counts_are_shown_in_their_unit() -> None:
    stream, times = io.StringIO(), iter([0.0, 0.0, 1.0, 2.5, 3.0])
    show = show_on(StatusLine(stream, lambda: next(times)))
    show(Progress(step="downloading", done=1_500_000, total=3_000_000, unit="bytes"))
    show(Progress(step="converting", done=1, total=30, unit="layers"))
    show(Progress(step="converting", done=30, total=30, unit="layers"))
    show(Progress(step="writing"))
    assert stream.getvalue().splitlines() == [
        "downloading  1.5 / 3.0 MB  0.0 s",
        "converting  1 / 30 layers  0.0 s",
        "converting  30 / 30 layers  1.5 s",
        "writing  0.0 s",
    ]
