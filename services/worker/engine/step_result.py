"""What a step plan gave: made by the runner, taken in by the scheduler."""

from __future__ import annotations

import enum


class NotDrawn(enum.Enum):
    """Why no token could be drawn."""

    NOT_FINITE = "the model's logits hold a NaN or an infinity"
    NOTHING_ALLOWED = "the request's rules forbid every token"
