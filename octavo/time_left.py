"""How long something takes that has told how far it is."""

from __future__ import annotations

_TOO_EARLY_S = 1.0  # before that, the speed is not known


def time_left_s(*, elapsed_s: float, done: int, total: int) -> float | None:
    """Seconds until `total` at the speed so far; None where that says nothing yet."""
    if done <= 0 or elapsed_s < _TOO_EARLY_S:
        return None
    return elapsed_s * max(0, total - done) / done
