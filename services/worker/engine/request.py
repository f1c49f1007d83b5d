"""What a request asks of the engine: token ids, never text."""

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
class LogprobOptions:
    """Whose log probabilities are reported, and how many of the likeliest tokens beside each."""

    generated: bool = False
    prompt: bool = False  # from its second token on
    top: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Submission:
    """What was asked for; never changes.

    Every output begins with `forced_ids`, taken instead of drawn. `generated_ids` has those of each
    output that were made elsewhere before, forced ones among them, or is empty; they are not
    reported again. Both count as output. None of the first `min_tokens` stops an output. With
    `max_tokens` 0 the prompt alone is computed, for its log probabilities. `expires_at` and
    `deadline_at` are on time.monotonic(): the first ends the outputs with TIME_LIMIT, the second
    fails the request with DEADLINE_EXCEEDED.
    """

    key: int  # unique in the engine
    request_id: str  # for logs
    prompt_ids: tuple[int, ...]
    num_outputs: int = 1
    generated_ids: tuple[tuple[int, ...], ...] = ()
    forced_ids: tuple[int, ...] = ()
    sampling: Sampling
    logprobs: LogprobOptions = LogprobOptions()
    stop_ids: frozenset[int] = frozenset()
    stop_sequences: tuple[array[int], ...] = ()
    min_tokens: int = 0
    max_tokens: int | None = None
    expires_at: float | None = None
    deadline_at: float | None = None
    priority: int = 0
    arrived_at: float  # time.monotonic()
