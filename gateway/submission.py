"""From a prepared request to what a worker group takes, with all defaults resolved."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence

from gateway.model_card import ModelCard
from gateway.output import OutputRules
from gateway.output_stream import StreamPlan
from gateway.preparation import Prepared
from gateway.request import GenerationRequest
from octavo.client.services.tokenizer_types import DecoderOptions
from octavo.client.services.worker_types import LogprobOptions, ResolvedSampling, Submission

PROMPT_TAIL_TOKENS = 8


def resolve(request: GenerationRequest, prepared: Prepared, model: ModelCard) -> Submission:
    """What the worker is asked for. Times become what remains of them now."""
    return Submission(
        request_id=request.request_id,
        prompt_token_ids=prepared.prompt_ids,
        sampling=_sampling(request, prepared, model),
        stop_token_ids=_stop_token_ids(request, model),
        stop_sequences=request.stopping.stop_token_sequences,
        forced_token_ids=request.sampling.forced_token_ids,
        logprobs=_logprobs(request),
        min_tokens=request.stopping.min_tokens or 0,
        max_tokens=request.stopping.max_tokens,
        time_limit_ms=_remaining_time_limit_ms(request),
        deadline_ms=_remaining_deadline_ms(request),
        priority=request.priority or 0,
        cache_salt=request.cache_salt,
    )


def plan(
    request: GenerationRequest, prepared: Prepared, submission: Submission, model: ModelCard
) -> StreamPlan:
    """How the worker's answer becomes the client's."""
    output, stopping = request.output, request.stopping
    send_text = output.text is not False
    rules = OutputRules(
        send_text=send_text,
        send_tokens=bool(output.token_ids or output.logprobs),
        include_stop=bool(stopping.include_stop),
        stop_sequences=stopping.stop_token_sequences,
    )
    decoder = DecoderOptions(
        prompt_tail_ids=prepared.prompt_ids[-PROMPT_TAIL_TOKENS:],
        stop_texts=stopping.stop,
        include_stop=rules.include_stop,
        token_bytes=rules.send_tokens,
        min_tokens=submission.min_tokens,
        request_id=request.request_id,
    )
    return StreamPlan(
        request_id=request.request_id,
        model=model.name,
        prompt_ids=prepared.prompt_ids,
        send_prompt_tokens=bool(output.prompt_logprobs or (output.echo and output.token_ids)),
        echoed_text=prepared.echoed_text,
        table=prepared.table,
        seed=submission.sampling.seed,
        num_outputs=submission.sampling.n,
        arrived_at=request.arrived_at,
        deadline_at=request.deadline_at,
        rules=rules,
        decoder=decoder if send_text or stopping.stop else None,
    )


def _sampling(request: GenerationRequest, prepared: Prepared, model: ModelCard) -> ResolvedSampling:
    given, defaults = request.sampling, model.defaults
    return ResolvedSampling(
        temperature=defaults.temperature if given.temperature is None else given.temperature,
        top_p=defaults.top_p if given.top_p is None else given.top_p,
        top_k=defaults.top_k if given.top_k is None else given.top_k,
        seed=secrets.randbits(63) if given.seed is None else given.seed,
        n=given.n or 1,
        min_p=given.min_p or 0.0,
        frequency_penalty=given.frequency_penalty or 0.0,
        presence_penalty=given.presence_penalty or 0.0,
        repetition_penalty=1.0 if given.repetition_penalty is None else given.repetition_penalty,
        no_repeat_ngram=given.no_repeat_ngram or 0,
        logit_bias=given.logit_bias,
        bad_words=prepared.bad_words,
        allowed_token_ids=given.allowed_token_ids,
    )


def _logprobs(request: GenerationRequest) -> LogprobOptions:
    output = request.output
    return LogprobOptions(
        generated=bool(output.logprobs),
        top=output.top_logprobs or 0,
        prompt=bool(output.prompt_logprobs),
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
    remaining = request.remaining_s()
    return None if remaining is None else max(1, int(1_000 * remaining))
