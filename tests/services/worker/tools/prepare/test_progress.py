from __future__ import annotations

import io

from services.worker.tools.prepare.progress import ConsoleProgress, Progress


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _loading(done: int) -> Progress:
    return Progress(step="loading", done=done, total=10, unit="layers")


def test_a_terminal_has_one_line_redrawn() -> None:
    stream, times = _Terminal(), iter([0.0, 0.0, 0.05, 1.0])
    console = ConsoleProgress(stream, lambda: next(times))
    for done in (0, 1, 2):
        console(_loading(done))
    console.close()
    console.close()
    drawn = "\rloading  0 / 10 layers  0.0 s\rloading  2 / 10 layers  1.0 s\n"
    assert stream.getvalue() == drawn


def test_a_file_has_a_line_per_step_and_the_last_count() -> None:
    stream, times = io.StringIO(), iter([0.0, 0.0, 1.0, 2.0, 3.0])
    console = ConsoleProgress(stream, lambda: next(times))
    for progress in (_loading(0), _loading(5), _loading(10), Progress(step="writing")):
        console(progress)
    console.close()
    assert stream.getvalue().splitlines() == [
        "loading  0 / 10 layers  0.0 s",
        "loading  10 / 10 layers  2.0 s",
        "writing  3.0 s",
    ]


def test_bytes_are_shown_as_megabytes() -> None:
    progress = Progress(step="downloading", done=1_500_000, total=3_000_000, unit="bytes")
    assert str(progress) == "downloading  1.5 / 3.0 MB"
