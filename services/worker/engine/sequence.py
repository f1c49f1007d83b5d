"""A submission while it is open, and the sequence of tokens that each of its outputs is."""

from __future__ import annotations

from services.worker.engine.request import Submission, token_array
from services.worker.engine.step_output import Finish
from services.worker.engine.step_result import TokenLogprob


class Request:
    """What has become of a submission. The scheduler and its reporter alone change it."""

    def __init__(self, submission: Submission, *, arrival: int) -> None:
        assert not (submission.logprobs.prompt and submission.generated_ids), "scored before"
        self.submission = submission
        self.arrival = arrival  # counts submissions: who came first
        self.sequences: list[Sequence] = []  # of the outputs that have not ended
        self.prompt_logprobs: list[TokenLogprob] = []  # until the first item takes them
        self.num_output_tokens = len(submission.generated_ids)
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
    """The prompt and one output of a request, token by token: what the scheduler runs.

    token_ids     [ prompt .................. | generated, forced .......... ]
                  [ computed ....... | pending ............................. ]
                  [ reported ....................... | forced, not yet ..... ]

    Computed tokens have their keys and values in the blocks of `block_table`; pending ones have
    not. A sequence that decodes has one pending token, the one drawn last. Where `finish_ahead` is
    known no token will be drawn, and the last of those known is never computed.
    """

    def __init__(self, request: Request, *, index: int = 0) -> None:
        submission = request.submission
        self.request = request
        self.index = index
        self.token_ids = token_array((*submission.prompt_ids, *submission.generated_ids))
        self.num_reported = len(self.token_ids)
        self.finish_ahead: Finish | None = None
        self.block_table: list[int] = []
        self.num_computed = 0
        self.is_running = False

    @property
    def precedence(self) -> tuple[int, int, int]:
        """Sorts sequences: highest priority first, then who came first."""
        return (-self.request.submission.priority, self.request.arrival, self.index)

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
            request.num_output_tokens += len(new)
            request.last_token_at = now
            if request.first_token_at is None:
                request.first_token_at = now
        return new
