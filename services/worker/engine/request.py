"""A request, as the engine sees it: token ids, never text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How the next token is drawn. temperature 0 is greedy; top_k 0 keeps all."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Submission:
    """What was asked for; never changes.

    `generated_ids` were made elsewhere before and count as output. `expires_at` and
    `deadline_at` are on time.monotonic(): the first ends the output with TIME_LIMIT, the second
    fails the request with DEADLINE_EXCEEDED.
    """

    key: int  # unique in the engine
    request_id: str  # for logs
    prompt_ids: tuple[int, ...]
    generated_ids: tuple[int, ...] = ()
    sampling: Sampling
    stop_ids: frozenset[int] = frozenset()
    max_tokens: int | None = None
    expires_at: float | None = None
    deadline_at: float | None = None
    priority: int = 0
    arrived_at: float  # time.monotonic()
