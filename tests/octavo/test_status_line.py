from __future__ import annotations

import io

from octavo.status_line import StatusLine


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_has_one_line_redrawn() -> None:
    stream, times = _Terminal(), iter([0.0, 0.0, 0.05, 1.0])
    line = StatusLine(stream, lambda: next(times))
    for detail in ("10 of 12", "11 of 12", "12"):
        line.show("loading", detail)
    line.print("done")
    line.close()
    drawn = "\rloading  10 of 12  0.0 s\rloading  12  1.0 s      \ndone\n"
    assert stream.getvalue() == drawn


def test_a_file_has_a_line_per_step_and_the_last_count() -> None:
    stream, times = io.StringIO(), iter([0.0, 0.0, 1.0, 2.0, 3.0, 9.0])
    line = StatusLine(stream, lambda: next(times))
    line.show("loading", "0")
    line.show("loading", "5")
    line.show("loading", "10", is_last=True)
    line.show("writing")
    line.show("writing")
    line.close()
    assert stream.getvalue().splitlines() == [
        "loading  0  0.0 s",
        "loading  10  2.0 s",
        "writing  0.0 s",
        "writing  6.0 s",
    ]
