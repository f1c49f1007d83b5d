"""When and how an output or a request ends: the rules, one beside the other."""

from __future__ import annotations

from array import array

from octavo.errors import (
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    OctavoError,
)
from services.worker.engine.sequence import Request, Sequence
from services.worker.engine.step_output import Finish, FinishReason, Timings
from services.worker.engine.step_plan import Chunk
from services.worker.engine.step_result import ChunkResult, NotDrawn


def finish_by_content(sequence: Sequence, *, context_limit: int) -> Finish | None:
    """How the output ends because of the tokens that it has, or None while it goes on.

    Asked after every token, and once at submission: what was generated elsewhere may be complete.
    """
    stop = _find_stop(sequence)
    if stop is not None:
        return stop
    max_tokens = sequence.request.submission.max_tokens
    if max_tokens is not None and sequence.num_generated >= max_tokens:
        return Finish(reason=FinishReason.LENGTH)
    if len(sequence.token_ids) >= context_limit:
        return Finish(reason=FinishReason.CONTEXT_LENGTH)
    return None


def take_forced(sequence: Sequence, *, context_limit: int) -> Finish | None:
    """Append the forced ids; how they or what was generated before end the output, or None.

    The forced ids after such an end are not taken.
    """
    finish = finish_by_content(sequence, context_limit=context_limit)
    for token_id in sequence.request.submission.forced_ids[sequence.num_generated :]:
        if finish is not None:
            break
        sequence.token_ids.append(token_id)
        finish = finish_by_content(sequence, context_limit=context_limit)
    return finish


def _find_stop(sequence: Sequence) -> Finish | None:
    """The stop id or stop sequence that the output ends with, past its first `min_tokens`."""
    submission = sequence.request.submission
    if sequence.num_generated <= submission.min_tokens:
        return None
    last = sequence.token_ids[-1]
    if last in submission.stop_ids:
        return Finish(reason=FinishReason.STOP, stop_id=last)
    for index, stop in enumerate(submission.stop_sequences):
        if stop[-1] == last and _is_end_of_output(sequence, stop):
            return Finish(reason=FinishReason.STOP, stop_sequence_index=index)
    return None


def _is_end_of_output(sequence: Sequence, stop: array[int]) -> bool:
    is_long_enough = len(stop) <= sequence.num_generated
    return is_long_enough and sequence.token_ids[-len(stop) :] == stop


def end_by_time(request: Request, now: float) -> Finish | OctavoError | None:
    """How the request ends because of the clock: the limit that passed first decides."""
    deadline_at = request.submission.deadline_at
    expires_at = request.submission.expires_at
    if (
        expires_at is not None
        and expires_at <= now
        and (deadline_at is None or expires_at < deadline_at)
    ):
        return Finish(reason=FinishReason.TIME_LIMIT)
    if deadline_at is not None and deadline_at <= now:
        return DeadlineExceededError(
            f"The deadline passed after {request.num_output_tokens} tokens of output.",
            metadata={
                "field": "deadline_ms",
                "generated_tokens": str(request.num_output_tokens),
            },
        )
    return None


def find_error(chunk: Chunk, result: ChunkResult) -> OctavoError | None:
    """Why a chunk did not give what was wanted of it, or None."""
    if None in result.scores:
        assert chunk.scoring is not None, "scores that nobody wanted"
        row = chunk.scoring.first_row + result.scores.index(None)
        return _not_drawn(NotDrawn.NOT_FINITE, chunk.start + row + 1)
    for drawn in result.drawn:
        if isinstance(drawn.token_id, NotDrawn):
            return _not_drawn(drawn.token_id, chunk.end)
    return None


def _not_drawn(cause: NotDrawn, position: int) -> OctavoError:
    if cause is NotDrawn.NOTHING_ALLOWED:
        return InvalidArgumentError(
            f"The request's own rules forbid every token at position {position}.",
            reason="NO_TOKEN_ALLOWED",
            metadata={"field": "sampling", "position": str(position)},
        )
    return InternalError(
        f"The model's logits for the token at position {position} are not all finite.",
        reason="NUMERIC_ERROR",
        metadata={"field": "logits", "value": "NaN or infinity", "position": str(position)},
    )


def timings_of(request: Request, now: float) -> Timings:
    """Where the time went. A phase that the request did not reach took none."""
    started_at = now if request.started_at is None else request.started_at
    first_token_at = now if request.first_token_at is None else request.first_token_at
    last_token_at = first_token_at if request.last_token_at is None else request.last_token_at
    return Timings(
        queue_ms=1e3 * max(0.0, started_at - request.submission.arrived_at),
        prefill_ms=1e3 * (first_token_at - started_at),
        decode_ms=1e3 * (last_token_at - first_token_at),
        num_preemptions=request.num_preemptions,
    )
