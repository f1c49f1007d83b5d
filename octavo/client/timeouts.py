"""How long a call may take: its own timeout, or the client's."""

from __future__ import annotations

import math

from octavo.errors import invalid_field


def chosen_timeout_s(timeout: float | None, default: float | None) -> float | None:
    """Seconds for a call; None means any time, which a caller writes as math.inf."""
    chosen = default if timeout is None else timeout
    if chosen is None or chosen == math.inf:
        return None
    if not chosen > 0:
        raise invalid_field("timeout", chosen, "a number of seconds above 0, or math.inf")
    return float(chosen)
