"""The events of a generation, as every door (gRPC, HTTP) receives them.

Order: one Accepted, any number of Delta, one Finished for each output index, one Usage. A failure
is an OctavoError raised from the iteration instead of what would have come next.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass


class FinishReason(enum.Enum):
    """Why an output ended; values are the names on the public wire."""

    STOP = "STOP"
    LENGTH = "LENGTH"
    CONTEXT_LENGTH = "CONTEXT_LENGTH"
    TIME_LIMIT = "TIME_LIMIT"
    CANCELLED = "CANCELLED"
    TOOL_CALLS = "TOOL_CALLS"


@dataclass(frozen=True, kw_only=True, slots=True)
class TopToken:
    """One of the likeliest tokens at a position."""

    id: int
    bytes: bytes
    logprob: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Token:
    """One token: its id and the bytes that it stands for. Where log probabilities were asked for,
    its own (None for a prompt's first token) and the likeliest at its position, likeliest first.
    """

    id: int
    bytes: bytes = b""
    logprob: float | None = None
    top: Sequence[TopToken] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Accepted:
    """The worker has scheduled the request. `prompt_tokens` are there where asked for; of the text
    of each output, the first `num_echoed_characters` are the prompt's.
    """

    request_id: str
    model: str
    num_prompt_tokens: int
    num_cached_prompt_tokens: int
    seed: int
    prompt_tokens: Sequence[Token] = ()
    num_echoed_characters: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Delta:
    """New text and tokens of one output."""

    output_index: int
    text: str
    tokens: Sequence[Token] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """The end of one output, and which stop matched, with reason STOP."""

    output_index: int
    reason: FinishReason
    stop_text: str | None = None
    stop_token_id: int | None = None
    stop_token_sequence: Sequence[int] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """Counts and times of the request; the last event."""

    num_prompt_tokens: int
    num_cached_prompt_tokens: int
    num_completion_tokens: int
    queue_ms: float
    prefill_ms: float
    first_token_ms: float
    decode_ms: float


Event = Accepted | Delta | Finished | Usage
