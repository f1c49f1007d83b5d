"""What one step of the engine gives: the seam between the engine and whoever carries it away."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from octavo.errors import OctavoError
from services.worker.engine.step_result import TokenLogprob


class FinishReason(enum.Enum):
    """Why an output ended."""

    STOP = "stop"
    LENGTH = "length"
    CONTEXT_LENGTH = "context_length"
    TIME_LIMIT = "time_limit"
    CANCELLED = "cancelled"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finish:
    """The end of an output. With reason STOP its last id is `stop_id`, or its last ids are the stop
    sequence at this place of the submission's.
    """

    reason: FinishReason
    stop_id: int | None = None
    stop_sequence_index: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Timings:
    """Milliseconds, as the engine measured them."""

    queue_ms: float
    prefill_ms: float
    decode_ms: float
    num_preemptions: int


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputItem:
    """What is new for one output of a request.

    `started` comes once, with the request's first item and the log probabilities of its prompt;
    `finish` ends the output, `error` the whole request; `timings` comes with the request's end.
    """

    key: int
    output_index: int = 0
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()  # one for each of token_ids, or none
    started: bool = False
    num_cached_prompt_tokens: int = 0
    prompt_logprobs: tuple[TokenLogprob, ...] = ()
    finish: Finish | None = None
    error: OctavoError | None = None
    timings: Timings | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """How busy the engine is."""

    step: int
    num_running: int
    num_waiting: int
    num_waiting_prompt_tokens: int
    num_used_blocks: int
    num_blocks: int
    num_preemptions: int
    num_step_prompt_tokens: int  # that the step has computed


@dataclass(frozen=True, kw_only=True, slots=True)
class StepOutput:
    """The items of one step, and the load after it."""

    items: tuple[OutputItem, ...]
    load: Load
