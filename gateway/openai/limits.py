"""The limits of the HTTP door."""

from __future__ import annotations

from dataclasses import dataclass

MAX_PROMPTS = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpLimits:
    """Bounds what one request may hold, and for how long.

    `max_body_bytes` bounds a body, `max_body_pieces` the pieces in which it arrives (each costs as
    much as a small body), `body_time_s` the time in which all of it must.
    `ping_interval_s` is the longest silence of an event stream; `stall_limit_s` is how long one
    write may wait for a client that does not read. `max_prompts` bounds a list of prompts,
    `max_outputs` all outputs of one request: what the gateway may have open at once.
    """

    max_body_bytes: int = 4 * 1024 * 1024
    max_body_pieces: int = 10_000
    body_time_s: float = 30.0
    ping_interval_s: float = 15.0
    stall_limit_s: float = 30.0
    max_prompts: int = MAX_PROMPTS
    max_outputs: int = 1_024
