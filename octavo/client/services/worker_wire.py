"""Between the types of worker_types.py and the messages of worker.proto."""

from __future__ import annotations

from collections.abc import Sequence

from octavo.client.services.worker_types import (
    Finish,
    FinishReason,
    Load,
    LogprobOptions,
    OutputItem,
    ResolvedSampling,
    Submission,
    Timings,
    TokenLogprob,
    WorkerDescription,
)
from octavo.errors import OctavoError, error_from_code
from octavo.v1 import worker_pb2 as pb

_FINISH_REASONS = {
    pb.RunFinishReason.Value(f"RUN_FINISH_REASON_{reason.name}"): reason for reason in FinishReason
}


def submit_to_pb(key: int, submission: Submission) -> pb.RunRequest:
    """The message that hands `submission` over under `key`."""
    return pb.RunRequest(
        submit=pb.Submit(
            key=key,
            request_id=submission.request_id,
            prompt_token_ids=submission.prompt_token_ids,
            sampling=_sampling_to_pb(submission.sampling),
            stop_token_ids=submission.stop_token_ids,
            stop_sequences=_sequences_to_pb(submission.stop_sequences),
            forced_token_ids=submission.forced_token_ids,
            logprobs=_logprob_options_to_pb(submission.logprobs),
            min_tokens=submission.min_tokens or None,
            max_tokens=submission.max_tokens,
            time_limit_ms=submission.time_limit_ms,
            deadline_ms=submission.deadline_ms,
            priority=submission.priority,
            cache_salt=submission.cache_salt,
        )
    )


def item_from_pb(item: pb.RunItem) -> OutputItem:
    """One item of a step."""
    return OutputItem(
        output_index=item.output_index,
        token_ids=tuple(item.token_ids),
        logprobs=tuple(_logprob_from_pb(logprob) for logprob in item.logprobs),
        prompt_logprobs=tuple(_logprob_from_pb(logprob) for logprob in item.start.prompt_logprobs),
        num_cached_prompt_tokens=(
            item.start.cached_prompt_token_count if item.HasField("start") else None
        ),
        finish=_finish_from_pb(item.finish) if item.HasField("finish") else None,
        error=_error_from_pb(item.error) if item.HasField("error") else None,
        timings=_timings_from_pb(item.timings) if item.HasField("timings") else None,
    )


def load_from_pb(load: pb.Load) -> Load:
    """The load after a step."""
    return Load(
        step=load.step,
        running=load.running,
        waiting=load.waiting,
        waiting_prompt_tokens=load.waiting_prompt_tokens,
        kv_blocks_used=load.kv_blocks_used,
        kv_blocks_total=load.kv_blocks_total,
    )


def description_from_pb(worker: pb.GetWorkerResponse) -> WorkerDescription:
    """What a worker group says about itself."""
    defaults = worker.defaults
    return WorkerDescription(
        worker_id=worker.worker_id,
        instance_id=worker.instance_id,
        ranks=worker.ranks,
        model=worker.model,
        max_context_tokens=worker.max_context_tokens,
        vocabulary_size=worker.vocabulary_size,
        eos_token_ids=tuple(worker.eos_token_ids),
        default_temperature=defaults.temperature if defaults.HasField("temperature") else None,
        default_top_p=defaults.top_p if defaults.HasField("top_p") else None,
        default_top_k=defaults.top_k if defaults.HasField("top_k") else None,
        checkpoint_fingerprint=worker.checkpoint_fingerprint,
        tokenizer_fingerprint=worker.tokenizer_fingerprint,
        numerics_fingerprint=worker.numerics_fingerprint,
        fields=tuple(worker.capabilities.fields),
        max_outputs=worker.capabilities.max_outputs,
        max_top_logprobs=worker.capabilities.max_top_logprobs,
    )


def _sampling_to_pb(sampling: ResolvedSampling) -> pb.ResolvedSampling:
    """What asks for nothing is left out: a worker refuses what it does not know by its presence."""
    return pb.ResolvedSampling(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        seed=sampling.seed,
        n=sampling.n,
        min_p=sampling.min_p or None,
        frequency_penalty=sampling.frequency_penalty or None,
        presence_penalty=sampling.presence_penalty or None,
        repetition_penalty=None
        if sampling.repetition_penalty == 1
        else sampling.repetition_penalty,
        no_repeat_ngram=sampling.no_repeat_ngram or None,
        logit_bias=sampling.logit_bias,
        bad_words=_sequences_to_pb(sampling.bad_words),
        allowed_token_ids=sampling.allowed_token_ids,
    )


def _sequences_to_pb(sequences: Sequence[Sequence[int]]) -> list[pb.TokenSequence]:
    return [pb.TokenSequence(ids=sequence) for sequence in sequences]


def _logprob_options_to_pb(options: LogprobOptions) -> pb.LogprobOptions | None:
    if options == LogprobOptions():
        return None
    return pb.LogprobOptions(
        generated=options.generated or None, top=options.top or None, prompt=options.prompt or None
    )


def _logprob_from_pb(logprob: pb.TokenLogprob) -> TokenLogprob:
    return TokenLogprob(
        logprob=logprob.logprob,
        top_token_ids=tuple(logprob.top_token_ids),
        top_logprobs=tuple(logprob.top_logprobs),
    )


def _finish_from_pb(finish: pb.RunFinish) -> Finish:
    has_sequence = finish.HasField("stop_sequence_index")
    return Finish(
        reason=_FINISH_REASONS[finish.reason],
        stop_token_id=finish.stop_token_id if finish.HasField("stop_token_id") else None,
        stop_sequence_index=finish.stop_sequence_index if has_sequence else None,
    )


def _timings_from_pb(timings: pb.RunTimings) -> Timings:
    return Timings(
        queue_ms=timings.queue_ms, prefill_ms=timings.prefill_ms, decode_ms=timings.decode_ms
    )


def _error_from_pb(error: pb.RunError) -> OctavoError:
    return error_from_code(
        error.code,
        error.message,
        reason=error.reason or None,
        metadata=error.metadata,
        retry_delay_ms=error.retry_delay_ms if error.HasField("retry_delay_ms") else None,
    )
