"""A request, as the engine sees it: token ids, never text."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field


def token_array(token_ids: Iterable[int] = ()) -> array[int]:
    """Token ids as int64 in one piece of memory, which a tensor can look at without a copy."""
    return array("q", token_ids)


@dataclass(frozen=True, kw_only=True, slots=True)
class LogitRules:
    """What is done to logits before a token is drawn; logit_rules.py says how. A default asks for
    nothing. Token ids are those of `token_array`.
    """

    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    biased_ids: array[int] = field(default_factory=token_array)
    biases: array[float] = field(default_factory=lambda: array("d"))  # one for each of biased_ids
    allowed_ids: array[int] = field(default_factory=token_array)  # empty: all
    bad_words: tuple[array[int], ...] = ()
    no_repeat_ngram: int = 0

    @property
    def look_back(self) -> bool:
        """Whether any of them depends on the tokens so far."""
        return (
            self.repetition_penalty != 1
            or self.frequency_penalty != 0
            or self.presence_penalty != 0
            or self.no_repeat_ngram > 0
            or bool(self.bad_words)
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How the next token is drawn. temperature 0 is greedy; top_k 0 keeps all, min_p 0 too."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int = 0
    rules: LogitRules | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Submission:
    """What was asked for; never changes.

    `generated_ids` were made elsewhere before and count as output. An output of fewer than
    `min_tokens` does not stop. `expires_at` and `deadline_at` are on time.monotonic(): the first
    ends the output with TIME_LIMIT, the second fails the request with DEADLINE_EXCEEDED.
    """

    key: int  # unique in the engine
    request_id: str  # for logs
    prompt_ids: tuple[int, ...]
    generated_ids: tuple[int, ...] = ()
    sampling: Sampling
    stop_ids: frozenset[int] = frozenset()
    stop_sequences: tuple[array[int], ...] = ()
    min_tokens: int = 0
    max_tokens: int | None = None
    expires_at: float | None = None
    deadline_at: float | None = None
    priority: int = 0
    arrived_at: float  # time.monotonic()


class Request:
    """What has become of a submission. The scheduler alone changes it.

    token_ids     [ prompt .................. | generated ...... ]
                  [ computed ....... | pending ................. ]

    Computed tokens have their keys and values in the blocks of `block_table`; pending ones have
    not. A request that decodes has one pending token, the one drawn last.
    """

    def __init__(self, submission: Submission, *, arrival: int) -> None:
        self.submission = submission
        self.arrival = arrival  # counts submissions: who came first
        self.token_ids = token_array((*submission.prompt_ids, *submission.generated_ids))
        self.block_table: list[int] = []
        self.num_computed = 0
        self.num_preemptions = 0
        self.is_running = False
        self.is_reported = False  # whether its first item, which says `started`, was made
        self.started_at: float | None = None
        self.first_token_at: float | None = None
        self.last_token_at: float | None = None

    @property
    def key(self) -> int:
        """The submission's key."""
        return self.submission.key

    @property
    def precedence(self) -> tuple[int, int]:
        """Sorts requests: highest priority first, then who came first."""
        return (-self.submission.priority, self.arrival)

    @property
    def num_prompt_tokens(self) -> int:
        """Tokens of the prompt."""
        return len(self.submission.prompt_ids)

    @property
    def num_generated(self) -> int:
        """Tokens of the output, those made elsewhere included."""
        return len(self.token_ids) - self.num_prompt_tokens

    @property
    def num_pending(self) -> int:
        """Tokens to compute before the next one can be drawn."""
        return len(self.token_ids) - self.num_computed

    def append(self, token_id: int, now: float) -> None:
        """Take the token drawn as the next pending one."""
        self.token_ids.append(token_id)
        self.last_token_at = now
        if self.first_token_at is None:
            self.first_token_at = now
