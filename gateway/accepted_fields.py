"""The one table of what requests may ask for: it drives checks, refusals and GetModel's answer.

`ACCEPTED` names every field that this gateway honours by its path in GenerateRequest, with its
check. A path that names a message stands for all that is in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from gateway.field_checks import (
    FLAG,
    JSON_OBJECT,
    MAX_PROMPT_TOKENS,
    MAX_UINT32,
    Check,
    by_token_id,
    list_of,
    matching,
    number,
    text,
    token_ids,
    whole_number,
)
from gateway.model_card import Capabilities
from octavo.client.services.worker_types import WorkerDescription

MAX_OUTPUTS = 32
MAX_TOP_LOGPROBS = 20
MAX_NO_REPEAT_NGRAM = 64
MAX_LOGIT_BIAS_TOKENS = 1_024
MAX_BAD_WORDS = 32
MAX_BAD_WORD_BYTES = 256
MAX_ALLOWED_TOKEN_IDS = 16_384
MAX_STOP_TEXTS = 16
MAX_STOP_TEXT_BYTES = 1_024
MAX_STOP_TOKEN_IDS = 64
MAX_STOP_TOKEN_SEQUENCES = 16
MAX_STOP_SEQUENCE_TOKENS = 32
MAX_TIME_LIMIT_MS = 24 * 60 * 60 * 1_000
# gRPC takes messages of 32 MiB; the texts that fit are bounded by `max_prompt_bytes` below that.
_ANY_TEXT = text(0, 32 * 1024 * 1024)
_STOP_SEQUENCE = token_ids(min_items=1, max_items=MAX_STOP_SEQUENCE_TOKENS)

ACCEPTED: Mapping[str, Check] = {
    "request_id": matching(r"[A-Za-z0-9._:-]{1,128}", "1 to 128 characters of [A-Za-z0-9._:-]"),
    "model": text(1, 256),
    "prompt": _ANY_TEXT,
    "token_ids": token_ids(min_items=1, max_items=MAX_PROMPT_TOKENS),
    "chat.messages.role": text(1, 64),
    "chat.messages.content": _ANY_TEXT,
    "chat.messages.name": text(1, 256),
    "chat.template_arguments": JSON_OBJECT,
    "sampling.temperature": number(0, 100),
    "sampling.top_p": number(0, 1, low_included=False),
    "sampling.top_k": whole_number(0, MAX_UINT32),
    "sampling.min_p": number(0, 1),
    "sampling.frequency_penalty": number(-2, 2),
    "sampling.presence_penalty": number(-2, 2),
    "sampling.repetition_penalty": number(0, 10, low_included=False),
    "sampling.no_repeat_ngram": whole_number(0, MAX_NO_REPEAT_NGRAM),
    "sampling.logit_bias": by_token_id(number(-100, 100), max_items=MAX_LOGIT_BIAS_TOKENS),
    "sampling.bad_words": list_of(text(1, MAX_BAD_WORD_BYTES), max_items=MAX_BAD_WORDS),
    "sampling.allowed_token_ids": token_ids(max_items=MAX_ALLOWED_TOKEN_IDS),
    "sampling.seed": whole_number(-(2**63), 2**63 - 1),
    "sampling.n": whole_number(1, MAX_OUTPUTS),
    "sampling.forced_token_ids": token_ids(max_items=MAX_PROMPT_TOKENS),
    "stopping.max_tokens": whole_number(0, MAX_UINT32),
    "stopping.min_tokens": whole_number(0, MAX_UINT32),
    "stopping.stop": list_of(text(1, MAX_STOP_TEXT_BYTES), max_items=MAX_STOP_TEXTS),
    "stopping.stop_token_ids": token_ids(max_items=MAX_STOP_TOKEN_IDS),
    "stopping.stop_token_sequences": list_of(_STOP_SEQUENCE, max_items=MAX_STOP_TOKEN_SEQUENCES),
    "stopping.ignore_eos": FLAG,
    "stopping.include_stop": FLAG,
    "stopping.time_limit_ms": whole_number(1, MAX_TIME_LIMIT_MS),
    "output.text": FLAG,
    "output.token_ids": FLAG,
    "output.logprobs": FLAG,
    "output.top_logprobs": whole_number(0, MAX_TOP_LOGPROBS),
    "output.prompt_logprobs": FLAG,
    "output.echo": FLAG,
    "priority": whole_number(-(2**31), 2**31 - 1),
    "cache_salt": text(0, 256),
}

# What a worker group must take for the gateway to accept a field, by its path in Submit. Fields
# that are not named here every worker takes, or no worker sees.
_NEEDED_OF_WORKERS: Mapping[str, str] = {
    "sampling.min_p": "sampling.min_p",
    "sampling.frequency_penalty": "sampling.frequency_penalty",
    "sampling.presence_penalty": "sampling.presence_penalty",
    "sampling.repetition_penalty": "sampling.repetition_penalty",
    "sampling.no_repeat_ngram": "sampling.no_repeat_ngram",
    "sampling.logit_bias": "sampling.logit_bias",
    "sampling.bad_words": "sampling.bad_words",
    "sampling.allowed_token_ids": "sampling.allowed_token_ids",
    "sampling.forced_token_ids": "forced_token_ids",
    "stopping.min_tokens": "min_tokens",
    "stopping.stop_token_sequences": "stop_sequences",
    "output.logprobs": "logprobs.generated",
    "output.top_logprobs": "logprobs.top",
    "output.prompt_logprobs": "logprobs.prompt",
}


def capabilities(*, max_prompt_bytes: int, max_session_requests: int) -> Capabilities:
    """What the table accepts, for GetModel."""
    return Capabilities(
        fields=tuple(ACCEPTED),
        max_outputs=MAX_OUTPUTS,
        max_top_logprobs=MAX_TOP_LOGPROBS,
        max_logit_bias_tokens=MAX_LOGIT_BIAS_TOKENS,
        max_bad_words=MAX_BAD_WORDS,
        max_bad_word_bytes=MAX_BAD_WORD_BYTES,
        max_allowed_token_ids=MAX_ALLOWED_TOKEN_IDS,
        max_no_repeat_ngram=MAX_NO_REPEAT_NGRAM,
        max_stop_texts=MAX_STOP_TEXTS,
        max_stop_text_bytes=MAX_STOP_TEXT_BYTES,
        max_stop_token_ids=MAX_STOP_TOKEN_IDS,
        max_stop_token_sequences=MAX_STOP_TOKEN_SEQUENCES,
        max_stop_sequence_tokens=MAX_STOP_SEQUENCE_TOKENS,
        max_prompt_bytes=max_prompt_bytes,
        max_session_requests=max_session_requests,
    )


def bounded_by(
    capabilities: Capabilities, worker: WorkerDescription, *, max_text_bytes: int
) -> Capabilities:
    """No more than the worker group takes, and no more text than the tokenizer does."""
    fields = [
        field
        for field in capabilities.fields
        if field not in _NEEDED_OF_WORKERS or _NEEDED_OF_WORKERS[field] in worker.fields
    ]
    return replace(
        capabilities,
        fields=tuple(fields),
        max_outputs=min(capabilities.max_outputs, worker.max_outputs),
        max_top_logprobs=min(capabilities.max_top_logprobs, worker.max_top_logprobs),
        max_prompt_bytes=min(capabilities.max_prompt_bytes, max_text_bytes),
    )
