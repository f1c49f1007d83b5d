"""Between the types of worker_types.py and the messages of worker.proto."""

from __future__ import annotations

from octavo.client.worker_types import (
    Finish,
    FinishReason,
    Load,
    OutputItem,
    Submission,
    Timings,
    WorkerDescription,
)
from octavo.errors import OctavoError, error_from_code
from octavo.v1 import worker_pb2 as pb

_FINISH_REASONS = {
    pb.RunFinishReason.Value(f"RUN_FINISH_REASON_{reason.name}"): reason for reason in FinishReason
}


def submit_to_pb(key: int, submission: Submission) -> pb.RunRequest:
    """The message that hands `submission` over under `key`."""
    sampling = submission.sampling
    return pb.RunRequest(
        submit=pb.Submit(
            key=key,
            request_id=submission.request_id,
            prompt_token_ids=submission.prompt_token_ids,
            sampling=pb.ResolvedSampling(
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                top_k=sampling.top_k,
                seed=sampling.seed,
                n=sampling.n,
            ),
            stop_token_ids=submission.stop_token_ids,
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
    )


def _finish_from_pb(finish: pb.RunFinish) -> Finish:
    return Finish(
        reason=_FINISH_REASONS[finish.reason],
        stop_token_id=finish.stop_token_id if finish.HasField("stop_token_id") else None,
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
