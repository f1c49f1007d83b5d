"""Between the wire's messages and the engine's types."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

from octavo.v1 import worker_pb2
from services.worker.engine.request import (
    LogitRules,
    LogprobOptions,
    Sampling,
    Submission,
    token_array,
)
from services.worker.engine.step_output import (
    Finish,
    FinishReason,
    Load,
    OutputItem,
    StepOutput,
    Timings,
)
from services.worker.engine.step_result import TokenLogprob
from services.worker.link.run_error import run_error

_FINISH_REASONS = {
    FinishReason.STOP: worker_pb2.RUN_FINISH_REASON_STOP,
    FinishReason.LENGTH: worker_pb2.RUN_FINISH_REASON_LENGTH,
    FinishReason.CONTEXT_LENGTH: worker_pb2.RUN_FINISH_REASON_CONTEXT_LENGTH,
    FinishReason.TIME_LIMIT: worker_pb2.RUN_FINISH_REASON_TIME_LIMIT,
    FinishReason.CANCELLED: worker_pb2.RUN_FINISH_REASON_CANCELLED,
}


def submission_from_pb(submit: worker_pb2.Submit, now: float) -> Submission:
    """A checked submit; its limits count from `now` (time.monotonic())."""
    return Submission(
        key=submit.key,
        request_id=submit.request_id,
        prompt_ids=tuple(submit.prompt_token_ids),
        num_outputs=submit.sampling.n or 1,
        generated_ids=_generated_from_pb(submit),
        forced_ids=tuple(submit.forced_token_ids),
        sampling=_sampling_from_pb(submit.sampling),
        logprobs=LogprobOptions(
            generated=submit.logprobs.generated,
            prompt=submit.logprobs.prompt,
            top=submit.logprobs.top,
        ),
        stop_ids=frozenset(submit.stop_token_ids),
        stop_sequences=_sequences_from_pb(submit.stop_sequences),
        min_tokens=submit.min_tokens,
        max_tokens=submit.max_tokens if submit.HasField("max_tokens") else None,
        expires_at=now + submit.time_limit_ms / 1000 if submit.HasField("time_limit_ms") else None,
        deadline_at=now + submit.deadline_ms / 1000 if submit.HasField("deadline_ms") else None,
        priority=submit.priority,
        arrived_at=now,
    )


def _generated_from_pb(submit: worker_pb2.Submit) -> tuple[tuple[int, ...], ...]:
    """Those of each output, none where it has none; empty where no output has any."""
    if not submit.generated:
        return ()
    by_index = {one.output_index: tuple(one.token_ids) for one in submit.generated}
    return tuple(by_index.get(index, ()) for index in range(submit.sampling.n or 1))


def response_to_pb(output: StepOutput) -> worker_pb2.RunResponse:
    """A step's output; the front adds sequence and instance."""
    return worker_pb2.RunResponse(
        items=[_item_to_pb(item) for item in output.items], load=load_to_pb(output.load)
    )


def load_to_pb(load: Load) -> worker_pb2.Load:
    """The load after a step."""
    return worker_pb2.Load(
        step=load.step,
        running=load.num_running,
        waiting=load.num_waiting,
        waiting_prompt_tokens=load.num_waiting_prompt_tokens,
        kv_blocks_used=load.num_used_blocks,
        kv_blocks_total=load.num_blocks,
        preemptions=load.num_preemptions,
        step_prompt_tokens=load.num_step_prompt_tokens,
    )


def _sampling_from_pb(sampling: worker_pb2.ResolvedSampling) -> Sampling:
    defaults = Sampling()
    return Sampling(
        temperature=(
            sampling.temperature if sampling.HasField("temperature") else defaults.temperature
        ),
        top_p=sampling.top_p if sampling.HasField("top_p") else defaults.top_p,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        seed=sampling.seed,
        rules=_rules_from_pb(sampling),
    )


def _rules_from_pb(sampling: worker_pb2.ResolvedSampling) -> LogitRules | None:
    """None where nothing is asked for: then nothing is done for each token either."""
    rules = LogitRules(
        repetition_penalty=(
            sampling.repetition_penalty if sampling.HasField("repetition_penalty") else 1.0
        ),
        frequency_penalty=sampling.frequency_penalty,
        presence_penalty=sampling.presence_penalty,
        biased_ids=token_array(sampling.logit_bias.keys()),
        biases=array("d", sampling.logit_bias.values()),
        allowed_ids=token_array(sampling.allowed_token_ids),
        bad_words=_sequences_from_pb(sampling.bad_words),
        no_repeat_ngram=sampling.no_repeat_ngram,
    )
    return None if rules == LogitRules() else rules


def _sequences_from_pb(
    sequences: Iterable[worker_pb2.TokenSequence],
) -> tuple[array[int], ...]:
    return tuple(token_array(sequence.ids) for sequence in sequences)


def _item_to_pb(item: OutputItem) -> worker_pb2.RunItem:
    message = worker_pb2.RunItem(
        key=item.key,
        output_index=item.output_index,
        token_ids=item.token_ids,
        logprobs=map(_logprob_to_pb, item.logprobs),
    )
    if item.started:
        message.start.cached_prompt_token_count = item.num_cached_prompt_tokens
        message.start.prompt_logprobs.extend(map(_logprob_to_pb, item.prompt_logprobs))
        message.start.SetInParent()
    if item.finish is not None:
        message.finish.MergeFrom(_finish_to_pb(item.finish))
    if item.error is not None:
        message.error.MergeFrom(run_error(item.error))
    if item.timings is not None:
        message.timings.MergeFrom(_timings_to_pb(item.timings))
        message.timings.SetInParent()
    return message


def _logprob_to_pb(logprob: TokenLogprob) -> worker_pb2.TokenLogprob:
    return worker_pb2.TokenLogprob(
        logprob=logprob.logprob,
        top_token_ids=logprob.top_ids,
        top_logprobs=logprob.top_logprobs,
    )


def _finish_to_pb(finish: Finish) -> worker_pb2.RunFinish:
    return worker_pb2.RunFinish(
        reason=_FINISH_REASONS[finish.reason],
        stop_token_id=finish.stop_id,
        stop_sequence_index=finish.stop_sequence_index,
    )


def _timings_to_pb(timings: Timings) -> worker_pb2.RunTimings:
    return worker_pb2.RunTimings(
        queue_ms=timings.queue_ms,
        prefill_ms=timings.prefill_ms,
        decode_ms=timings.decode_ms,
        preemption_count=timings.num_preemptions,
    )
