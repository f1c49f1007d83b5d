"""What a worker group says about itself and its work, without protobuf."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from octavo.errors import OctavoError


class FinishReason(enum.Enum):
    """Why an output ended in a worker, which knows no text."""

    STOP = "STOP"
    LENGTH = "LENGTH"
    CONTEXT_LENGTH = "CONTEXT_LENGTH"
    TIME_LIMIT = "TIME_LIMIT"
    CANCELLED = "CANCELLED"


@dataclass(frozen=True, kw_only=True, slots=True)
class ResolvedSampling:
    """How the next token is drawn. What has a value here asks for nothing until it is changed."""

    temperature: float
    top_p: float
    top_k: int
    seed: int
    n: int
    min_p: float = 0.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repetition_penalty: float = 1.0
    no_repeat_ngram: int = 0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    bad_words: Sequence[Sequence[int]] = ()
    allowed_token_ids: Sequence[int] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class LogprobOptions:
    """Which log probabilities are sent; `top` likeliest tokens at each of their positions."""

    generated: bool = False
    top: int = 0
    prompt: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Submission:
    """One request for a worker. Times are what remains, in milliseconds; None means no limit."""

    request_id: str
    prompt_token_ids: Sequence[int]
    sampling: ResolvedSampling
    stop_token_ids: Sequence[int] = ()
    stop_sequences: Sequence[Sequence[int]] = ()
    forced_token_ids: Sequence[int] = ()
    logprobs: LogprobOptions = LogprobOptions()
    min_tokens: int = 0
    max_tokens: int | None = None
    time_limit_ms: int | None = None
    deadline_ms: int | None = None
    priority: int = 0
    cache_salt: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Finish:
    """How an output ended; a stop id is the last of its item's ids, and a stop sequence (by its
    place among the submission's) the last ids of the output.
    """

    reason: FinishReason
    stop_token_id: int | None = None
    stop_sequence_index: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenLogprob:
    """The log probability of one token, and the likeliest at its position, likeliest first."""

    logprob: float
    top_token_ids: Sequence[int] = ()
    top_logprobs: Sequence[float] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Timings:
    """Times of a request in milliseconds, as the worker measured them."""

    queue_ms: float
    prefill_ms: float
    decode_ms: float


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputItem:
    """What is new for one output. `num_cached_prompt_tokens` is set in a request's first item only,
    with the prompt's log probabilities from its second id on; `timings` in its last, `error` where
    the whole request failed. `logprobs` has one entry for each of `token_ids`, where asked for.
    """

    output_index: int
    token_ids: Sequence[int]
    logprobs: Sequence[TokenLogprob] = ()
    prompt_logprobs: Sequence[TokenLogprob] = ()
    num_cached_prompt_tokens: int | None = None
    finish: Finish | None = None
    error: OctavoError | None = None
    timings: Timings | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """How busy a worker group was after its last step."""

    step: int = 0
    running: int = 0
    waiting: int = 0
    waiting_prompt_tokens: int = 0
    kv_blocks_used: int = 0
    kv_blocks_total: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerDescription:
    """What GetWorker answers. A default that the checkpoint does not name is None; `fields` are the
    paths of Submit's fields that are accepted.
    """

    worker_id: str
    instance_id: str
    ranks: int
    model: str
    max_context_tokens: int
    vocabulary_size: int
    eos_token_ids: Sequence[int]
    default_temperature: float | None
    default_top_p: float | None
    default_top_k: int | None
    checkpoint_fingerprint: str
    tokenizer_fingerprint: str
    numerics_fingerprint: str
    fields: Sequence[str]
    max_outputs: int
    max_top_logprobs: int
