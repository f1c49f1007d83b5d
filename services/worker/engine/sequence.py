"""A submission while it is open, and the sequences of tokens that its outputs are."""

from __future__ import annotations

import copy

from services.worker.engine.request import Submission, token_array
from services.worker.engine.step_output import Finish
from services.worker.engine.step_result import TokenLogprob


class Request:
    """What has become of a submission. The scheduler and its reporter alone change it."""

    def __init__(self, submission: Submission, *, arrival: int) -> None:
        assert not (submission.logprobs.prompt and any(submission.generated_ids)), "scored before"
        self.submission = submission
        self.arrival = arrival  # counts submissions: who came first
        self.sequences: list[Sequence] = []  # of the outputs that have not ended
        self.prompt_logprobs: list[TokenLogprob] = []  # until the first item takes them
        self.num_output_tokens = sum(map(len, submission.generated_ids))
        self.num_preemptions = 0
        self.is_reported = False  # whether its first item, which says `started`, was made
        self.started_at: float | None = None
        self.first_token_at: float | None = None
        self.last_token_at: float | None = None

    @property
    def key(self) -> int:
        """The submission's key."""
        return self.submission.key

    @property
    def num_prompt_tokens(self) -> int:
        """Tokens of the prompt."""
        return len(self.submission.prompt_ids)

    @property
    def awaits_prompt_logprobs(self) -> bool:
        """Whether tokens of the prompt are still to be scored, as far as they are computed."""
        return self.submission.logprobs.prompt and not self.is_reported

    @property
    def may_start(self) -> bool:
        """Whether nothing is missing for its first item, once it was scheduled."""
        is_scored = len(self.prompt_logprobs) == self.num_prompt_tokens - 1
        return is_scored or not self.submission.logprobs.prompt

    def keep_prompt_logprobs(
        self, scores: tuple[TokenLogprob | None, ...]
    ) -> tuple[TokenLogprob, ...]:
        """Keep the prompt's for the first item; returns the others, those of forced tokens."""
        finite = tuple(score for score in scores if score is not None)
        if not self.awaits_prompt_logprobs:
            return finite
        num_missing = self.num_prompt_tokens - 1 - len(self.prompt_logprobs)
        self.prompt_logprobs += finite[:num_missing]
        return finite[num_missing:]


class Sequence:
    """The prompt and an output of a request, token by token: what the scheduler runs.

    Until the first token is drawn, one sequence stands for all outputs that are the same up to
    there: those of `indices`. Then it forks.

    token_ids     [ prompt .................. | generated, forced .......... ]
                  [ computed ....... | pending ............................. ]
                  [ reported ....................... | forced, not yet ..... ]

    Computed tokens have their keys and values in the blocks of `block_table`; pending ones have
    not. A sequence that decodes has one pending token, the one drawn last. Where `finish_ahead` is
    known no token will be drawn, and the last of those known is never computed.
    """

    def __init__(
        self, request: Request, indices: tuple[int, ...], generated_ids: tuple[int, ...]
    ) -> None:
        self.request = request
        self.indices = indices
        self.token_ids = token_array((*request.submission.prompt_ids, *generated_ids))
        self.num_reported = len(self.token_ids)
        self.finish_ahead: Finish | None = None
        self.block_table: list[int] = []
        self.num_computed = 0
        self.is_running = False

    @property
    def precedence(self) -> tuple[int, int, int]:
        """Sorts sequences: highest priority first, then who came first."""
        return (-self.priority, self.request.arrival, self.indices[0])

    @property
    def priority(self) -> int:
        """The submission's priority."""
        return self.request.submission.priority

    @property
    def num_outputs(self) -> int:
        """Outputs that it stands for, each of which takes a place among those that run."""
        return len(self.indices)

    @property
    def num_generated(self) -> int:
        """Tokens of the output, those forced and those made elsewhere included."""
        return len(self.token_ids) - self.request.num_prompt_tokens

    @property
    def num_pending(self) -> int:
        """Tokens to compute before the next one can be drawn, or the output ends."""
        return len(self.token_ids) - (self.finish_ahead is not None) - self.num_computed

    def report(self, end: int, now: float) -> tuple[int, ...]:
        """The ids before position `end` that were not reported yet; from now on they are."""
        new = tuple(self.token_ids[self.num_reported : end])
        if new:
            request = self.request
            self.num_reported += len(new)
            request.num_output_tokens += len(new) * self.num_outputs
            request.last_token_at = now
            if request.first_token_at is None:
                request.first_token_at = now
        return new

    def fork(self) -> list[Sequence]:
        """A sequence for each output but the first, for which this one goes on to stand.

        They have the same tokens and name the same blocks, of which they are no holders yet.
        """
        first, *others = self.indices
        self.indices = (first,)
        sequences = []
        for index in others:
            other = copy.copy(self)
            other.indices = (index,)
            other.token_ids = self.token_ids[:]
            other.block_table = self.block_table[:]
            sequences.append(other)
        return sequences


def first_sequences(request: Request) -> list[Sequence]:
    """Those of a new request: one for all outputs, or one each where they differ already."""
    submission = request.submission
    if any(submission.generated_ids):
        return [Sequence(request, (i,), ids) for i, ids in enumerate(submission.generated_ids)]
    return [Sequence(request, tuple(range(submission.num_outputs)), ())]
