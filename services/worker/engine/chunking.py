"""What a step runs of one sequence, and what it wants from that."""

from __future__ import annotations

from services.worker.engine.request import token_array
from services.worker.engine.sequence import Sequence
from services.worker.engine.step_plan import Chunk, Draw, History, Scoring


def next_chunk(sequence: Sequence, count: int) -> Chunk:
    """The next `count` pending tokens; the one after the last of them is drawn if it is unknown,
    once for each output that the sequence stands for.
    """
    start, end = sequence.num_computed, sequence.num_computed + count
    draws: tuple[Draw, ...] = ()
    if end == len(sequence.token_ids):
        draws = _next_draws(sequence)
    return Chunk(
        token_ids=tuple(sequence.token_ids[start:end]),
        start=start,
        block_table=tuple(sequence.block_table),
        draws=draws,
        scoring=_scoring(sequence, start, end),
    )


def _next_draws(sequence: Sequence) -> tuple[Draw, ...]:
    """How the token after all that are known is drawn."""
    submission = sequence.request.submission
    rules, history = submission.sampling.rules, None
    if rules is not None and rules.look_back:
        history = History(
            token_ids=sequence.token_ids[:],
            num_prompt_tokens=sequence.request.num_prompt_tokens,
        )
    may_stop = sequence.num_generated >= submission.min_tokens
    forbidden_ids = None if may_stop else token_array(submission.stop_ids)
    logprobs = submission.logprobs
    return tuple(
        Draw(
            sampling=submission.sampling,
            output_index=index,
            position=len(sequence.token_ids),
            history=history,
            forbidden_ids=forbidden_ids,
            num_top_logprobs=logprobs.top if logprobs.generated else None,
        )
        for index in sequence.indices
    )


def _scoring(sequence: Sequence, start: int, end: int) -> Scoring | None:
    """Which of the tokens known at positions start + 1 to `end` are scored.

    Those of the prompt until the first item takes them, then those that are not reported yet.
    """
    request = sequence.request
    options = request.submission.logprobs
    if not (options.prompt or options.generated):
        return None
    first, stop = start + 1, min(end + 1, len(sequence.token_ids))
    if not request.awaits_prompt_logprobs:
        first = max(first, sequence.num_reported)
    if not options.generated:
        stop = min(stop, request.num_prompt_tokens)
    if first >= stop:
        return None
    return Scoring(
        first_row=first - 1 - start,
        token_ids=tuple(sequence.token_ids[first:stop]),
        num_top_logprobs=options.top,
    )
