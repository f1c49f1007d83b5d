"""The one table of what requests may ask for: it drives checks, refusals and GetModel's answer.

`ACCEPTED` names every field that this gateway honours by its path in GenerateRequest, with its
check. A path that names a message stands for all that is in it.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.field_checks import (
    Check,
    flag,
    json_object,
    list_of,
    matching,
    number,
    text,
    token_ids,
    whole_number,
)
from gateway.model_card import Capabilities

MAX_OUTPUTS = 1
MAX_STOP_TEXTS = 16
MAX_STOP_TEXT_BYTES = 1_024
MAX_STOP_TOKEN_IDS = 64
MAX_TIME_LIMIT_MS = 24 * 60 * 60 * 1_000
MAX_UINT32 = 2**32 - 1
# gRPC takes messages of 32 MiB; the texts that fit are bounded by `max_prompt_bytes` below that.
_ANY_TEXT = text(0, 32 * 1024 * 1024)

ACCEPTED: Mapping[str, Check] = {
    "request_id": matching(r"[A-Za-z0-9._:-]{1,128}", "1 to 128 characters of [A-Za-z0-9._:-]"),
    "model": text(1, 256),
    "prompt": _ANY_TEXT,
    "token_ids": token_ids,
    "chat.messages.role": text(1, 64),
    "chat.messages.content": _ANY_TEXT,
    "chat.messages.name": text(1, 256),
    "chat.template_arguments": json_object,
    "sampling.temperature": number(0, 100),
    "sampling.top_p": number(0, 1, low_included=False),
    "sampling.top_k": whole_number(0, MAX_UINT32),
    "sampling.seed": whole_number(-(2**63), 2**63 - 1),
    "sampling.n": whole_number(1, MAX_OUTPUTS),
    "stopping.max_tokens": whole_number(1, MAX_UINT32),
    "stopping.stop": list_of(text(1, MAX_STOP_TEXT_BYTES), max_items=MAX_STOP_TEXTS),
    "stopping.stop_token_ids": list_of(whole_number(0, MAX_UINT32), max_items=MAX_STOP_TOKEN_IDS),
    "stopping.ignore_eos": flag,
    "stopping.include_stop": flag,
    "stopping.time_limit_ms": whole_number(1, MAX_TIME_LIMIT_MS),
    "output.text": flag,
    "output.token_ids": flag,
    "priority": whole_number(-(2**31), 2**31 - 1),
    "cache_salt": text(0, 256),
}


def capabilities(*, max_prompt_bytes: int, max_session_requests: int) -> Capabilities:
    """What the table accepts, for GetModel."""
    return Capabilities(
        fields=tuple(ACCEPTED),
        max_outputs=MAX_OUTPUTS,
        max_top_logprobs=0,
        max_stop_texts=MAX_STOP_TEXTS,
        max_stop_text_bytes=MAX_STOP_TEXT_BYTES,
        max_stop_token_ids=MAX_STOP_TOKEN_IDS,
        max_prompt_bytes=max_prompt_bytes,
        max_session_requests=max_session_requests,
    )
