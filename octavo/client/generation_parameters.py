"""The keyword parameters of a generation: flat, and named as the fields of generation.proto.

A parameter that is absent or None takes the default of the model or of the server; an explicit 0,
False or "" is honoured. The server checks values and names the field, value and limit it refuses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

Message = Mapping[str, Any]
"""One message of a conversation: {"role": "user", "content": "Hello"}, and `name` if need be."""


class GenerationParameters(TypedDict, total=False):
    """What `generate`, `stream` and a session's `open` take besides the input."""

    request_id: str | None  # for logs and answers; the server draws one
    model: str | None  # the only one served
    template_arguments: Mapping[str, Any] | None  # extra variables of the chat template
    priority: int | None  # higher goes first and is preempted last
    cache_salt: str | None  # cached prompt blocks are shared among requests of equal salt only

    # How the next token is drawn.
    temperature: float | None  # 0 means greedy
    top_p: float | None
    top_k: int | None  # 0 means all tokens
    min_p: float | None
    frequency_penalty: float | None
    presence_penalty: float | None
    repetition_penalty: float | None
    no_repeat_ngram: int | None
    logit_bias: Mapping[int, float] | None  # by token id
    bad_words: Sequence[str] | None
    allowed_token_ids: Sequence[int] | None
    forced_token_ids: Sequence[int] | None  # every output begins with them
    seed: int | None
    n: int | None  # how many outputs

    # When an output ends.
    max_tokens: int | None  # of each output; absent: the rest of the context
    min_tokens: int | None
    stop: str | Sequence[str] | None
    stop_token_ids: Sequence[int] | None
    stop_token_sequences: Sequence[Sequence[int]] | None
    ignore_eos: bool | None
    include_stop: bool | None
    time_limit_ms: int | None  # ends with what there is, reason TIME_LIMIT

    # What is sent back.
    text: bool | None  # True unless switched off
    tokens: bool | None  # token ids and their bytes; `output.token_ids` on the wire
    logprobs: bool | None
    top_logprobs: int | None  # so many of the likeliest tokens at each position
    prompt_logprobs: bool | None
    echo: bool | None  # the prompt is repeated at the start of each output
