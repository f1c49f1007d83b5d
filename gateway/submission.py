"""From a request and its prompt's ids to what a worker group takes, with all defaults resolved."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence

from gateway.model_card import ModelCard
from gateway.output import OutputRules
from gateway.output_stream import StreamPlan
from gateway.request import GenerationRequest
from octavo.client.tokenizer_types import DecoderOptions
from octavo.client.worker_types import ResolvedSampling, Submission

PROMPT_TAIL_TOKENS = 8


def resolve(request: GenerationRequest, prompt_ids: Sequence[int], model: ModelCard) -> Submission:
    """What the worker is asked for. Times become what remains of them now."""
    return Submission(
        request_id=request.request_id,
        prompt_token_ids=prompt_ids,
        sampling=_sampling(request, model),
        stop_token_ids=_stop_token_ids(request, model),
        max_tokens=request.stopping.max_tokens,
        time_limit_ms=_remaining_time_limit_ms(request),
        deadline_ms=_remaining_deadline_ms(request),
        priority=request.priority or 0,
        cache_salt=request.cache_salt,
    )


def plan(request: GenerationRequest, submission: Submission, model: ModelCard) -> StreamPlan:
    """How the worker's answer becomes the client's."""
    send_text = request.output.text is not False
    send_tokens = bool(request.output.token_ids)
    include_stop = bool(request.stopping.include_stop)
    decoder = DecoderOptions(
        prompt_tail_ids=submission.prompt_token_ids[-PROMPT_TAIL_TOKENS:],
        stop_texts=request.stopping.stop,
        include_stop=include_stop,
        token_bytes=send_tokens,
    )
    return StreamPlan(
        request_id=request.request_id,
        model=model.name,
        num_prompt_tokens=len(submission.prompt_token_ids),
        seed=submission.sampling.seed,
        num_outputs=submission.sampling.n,
        arrived_at=request.arrived_at,
        deadline_at=request.deadline_at,
        rules=OutputRules(send_text=send_text, send_tokens=send_tokens, include_stop=include_stop),
        decoder=decoder if send_text or request.stopping.stop else None,
    )


def remaining_s(request: GenerationRequest) -> float | None:
    """What remains until the client's deadline, 0 where it has passed, None where it has none."""
    if request.deadline_at is None:
        return None
    return max(0.0, request.deadline_at - time.monotonic())


def _sampling(request: GenerationRequest, model: ModelCard) -> ResolvedSampling:
    given, defaults = request.sampling, model.defaults
    return ResolvedSampling(
        temperature=defaults.temperature if given.temperature is None else given.temperature,
        top_p=defaults.top_p if given.top_p is None else given.top_p,
        top_k=defaults.top_k if given.top_k is None else given.top_k,
        seed=secrets.randbits(63) if given.seed is None else given.seed,
        n=given.n or 1,
    )


def _stop_token_ids(request: GenerationRequest, model: ModelCard) -> Sequence[int]:
    own = () if request.stopping.ignore_eos else model.eos_token_ids
    return tuple(dict.fromkeys((*own, *request.stopping.stop_token_ids)))


def _remaining_time_limit_ms(request: GenerationRequest) -> int | None:
    """The limit counts from arrival; one that has passed ends the output in the first step."""
    limit_ms = request.stopping.time_limit_ms
    if limit_ms is None:
        return None
    elapsed_ms = 1_000 * (time.monotonic() - request.arrived_at)
    return max(1, int(limit_ms - elapsed_ms))


def _remaining_deadline_ms(request: GenerationRequest) -> int | None:
    remaining = remaining_s(request)
    return None if remaining is None else max(1, int(1_000 * remaining))
