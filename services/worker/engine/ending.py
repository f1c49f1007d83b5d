"""When and how a request ends: the rules, one beside the other."""

from __future__ import annotations

from octavo.errors import (
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    OctavoError,
)
from services.worker.engine.request import Request
from services.worker.engine.step_output import Finish, FinishReason, Timings
from services.worker.engine.step_result import NotDrawn


def finish_by_content(request: Request, *, context_limit: int) -> Finish | None:
    """How the output ends because of the tokens that it has, or None while it goes on.

    Asked after every token, and once at submission: what was generated elsewhere may be complete.
    """
    stop = _find_stop(request)
    if stop is not None:
        return stop
    max_tokens = request.submission.max_tokens
    if max_tokens is not None and request.num_generated >= max_tokens:
        return Finish(reason=FinishReason.LENGTH)
    if len(request.token_ids) >= context_limit:
        return Finish(reason=FinishReason.CONTEXT_LENGTH)
    return None


def _find_stop(request: Request) -> Finish | None:
    """The stop id or stop sequence that the output ends with, once it has its `min_tokens`."""
    submission, num_generated = request.submission, request.num_generated
    if num_generated == 0 or num_generated < submission.min_tokens:
        return None
    if request.token_ids[-1] in submission.stop_ids:
        return Finish(reason=FinishReason.STOP, stop_id=request.token_ids[-1])
    for index, sequence in enumerate(submission.stop_sequences):
        length = len(sequence)
        if length <= num_generated and request.token_ids[-length:] == sequence:
            return Finish(reason=FinishReason.STOP, stop_sequence_index=index)
    return None


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
            f"The deadline passed after {request.num_generated} tokens of output.",
            metadata={"field": "deadline_ms", "generated_tokens": str(request.num_generated)},
        )
    return None


def not_drawn_error(request: Request, cause: NotDrawn) -> OctavoError:
    """The error of a request for which no token could be drawn."""
    position = len(request.token_ids)
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
