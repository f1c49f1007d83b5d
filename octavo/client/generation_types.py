"""What a generation is made of: the events of a stream, and the whole that they join to.

The order of events: one Accepted, any number of Delta, one Finished for each output index, one
Usage last. A failure is raised in place of what would have come next.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass


class FinishReason(enum.StrEnum):
    """Why an output ended."""

    STOP = "STOP"  # a stop text, stop id, stop sequence or end-of-sequence id
    LENGTH = "LENGTH"  # max_tokens were generated
    CONTEXT_LENGTH = "CONTEXT_LENGTH"  # the model's window is full
    TIME_LIMIT = "TIME_LIMIT"  # time_limit_ms ran out
    CANCELLED = "CANCELLED"  # cancelled inside a session
    TOOL_CALLS = "TOOL_CALLS"  # the model called tools
    UNSPECIFIED = "UNSPECIFIED"  # a reason of a newer server, unknown to this client


@dataclass(frozen=True, kw_only=True, slots=True)
class TopToken:
    """One of the likeliest tokens at a position; `logprob` is a natural logarithm."""

    id: int
    bytes: bytes
    logprob: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Token:
    """One token. A character may span the bytes of several.

    `logprob` is None where it was not asked for, and for a prompt's first token; `top` has the
    likeliest tokens at its position, likeliest first.
    """

    id: int
    bytes: bytes
    logprob: float | None = None
    top: Sequence[TopToken] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Accepted:
    """The request was scheduled. `seed` is the one in use: with it the call can be repeated."""

    request_id: str
    model: str
    prompt_token_count: int
    cached_prompt_token_count: int
    seed: int
    prompt_tokens: Sequence[Token] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Delta:
    """New text of one output, and its new tokens where they were asked for."""

    output_index: int
    text: str
    tokens: Sequence[Token] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """The end of one output, and with reason STOP what matched."""

    output_index: int
    reason: FinishReason
    stop_text: str | None = None
    stop_token_id: int | None = None
    stop_token_sequence: Sequence[int] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """Tokens and times of a whole request; completion tokens are those of all its outputs."""

    prompt_token_count: int
    cached_prompt_token_count: int
    completion_token_count: int
    queue_ms: float
    prefill_ms: float
    first_token_ms: float
    decode_ms: float


Event = Accepted | Delta | Finished | Usage


@dataclass(frozen=True, kw_only=True, slots=True)
class Output:
    """One whole output."""

    output_index: int
    text: str
    tokens: Sequence[Token]
    finished: Finished

    @property
    def finish_reason(self) -> FinishReason:
        """Why it ended."""
        return self.finished.reason


@dataclass(frozen=True, kw_only=True, slots=True)
class Generation:
    """A whole generation. `text`, `tokens` and `finish_reason` are those of its first output."""

    accepted: Accepted
    outputs: Sequence[Output]
    usage: Usage

    @property
    def text(self) -> str:
        """The text of the first output."""
        return self.outputs[0].text

    @property
    def tokens(self) -> Sequence[Token]:
        """The tokens of the first output, where they were asked for."""
        return self.outputs[0].tokens

    @property
    def finish_reason(self) -> FinishReason:
        """Why the first output ended."""
        return self.outputs[0].finish_reason

    @property
    def request_id(self) -> str:
        """The id of the request in the server's logs."""
        return self.accepted.request_id

    @property
    def model(self) -> str:
        """The model that answered."""
        return self.accepted.model

    @property
    def seed(self) -> int:
        """The seed in use: with it the call can be repeated."""
        return self.accepted.seed

    @property
    def prompt_tokens(self) -> Sequence[Token]:
        """The prompt's tokens, where `prompt_logprobs` or `echo` asked for them."""
        return self.accepted.prompt_tokens
