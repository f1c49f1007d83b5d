"""How long a call may take: its own timeout, or the client's."""

from __future__ import annotations

import math
from typing import SupportsFloat

from octavo.errors import invalid_field


def chosen_timeout_s(timeout: float | None, default: float | None) -> float | None:
    """Seconds for a call; None means any time, which a caller writes as math.inf."""
    chosen = default if timeout is None else timeout
    if chosen is None or chosen == math.inf:
        return None
    if not _is_time(chosen):
        limit = "a number of seconds above 0, or infinity for any time"
        raise invalid_field("timeout", chosen, limit)
    return float(chosen)


def _is_time(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, SupportsFloat) and float(value) > 0
