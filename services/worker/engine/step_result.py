"""What a step plan gave: made by the runner, taken in by the scheduler."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class NotDrawn(enum.Enum):
    """Why no token could be drawn."""

    NOT_FINITE = "the model's logits hold a NaN or an infinity"
    NOTHING_ALLOWED = "the request's rules forbid every token"


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenLogprob:
    """The log probability of one token, and the likeliest at its position, likeliest first."""

    logprob: float
    top_ids: tuple[int, ...] = ()
    top_logprobs: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Drawn:
    """What one draw gave; with a log probability where the draw wants one."""

    token_id: int | NotDrawn
    logprob: TokenLogprob | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ChunkResult:
    """What one chunk of the plan gave."""

    drawn: tuple[Drawn, ...] = ()  # in the order of the chunk's draws
    scores: tuple[TokenLogprob | None, ...] = ()  # of its scored ids; None: logits are not finite
