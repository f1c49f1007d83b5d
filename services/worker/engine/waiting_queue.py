"""The only queue of a worker: ordered by precedence, bounded in outputs and prompt tokens."""

from __future__ import annotations

import bisect
from collections.abc import Iterator

from octavo.errors import ResourceExhaustedError
from services.worker.engine.sequence import Sequence

_SHORTEST_RETRY_MS = 100.0
_LONGEST_RETRY_MS = 10_000.0


class WaitingQueue:
    """Sequences that hold no blocks: the new ones, and those that were preempted.

    The bounds are for new ones; what was admitted once always comes back in. An empty queue takes
    any prompt, so that none is too long for the queue that is not too long for the model.
    """

    def __init__(self, *, max_outputs: int, max_prompt_tokens: int) -> None:
        self._max_outputs = max_outputs
        self._max_prompt_tokens = max_prompt_tokens
        self._sequences: list[Sequence] = []
        self.num_outputs = 0
        self.num_prompt_tokens = 0

    def __len__(self) -> int:
        return len(self._sequences)

    def __iter__(self) -> Iterator[Sequence]:
        return iter(self._sequences)

    @property
    def first(self) -> Sequence:
        """The sequence whose turn is next."""
        return self._sequences[0]

    def find_refusal(
        self, *, num_outputs: int, num_prompt_tokens: int, wait_ms: float
    ) -> ResourceExhaustedError | None:
        """Why so many more outputs and tokens of prompts have no place, or None if they have.

        The caller is told to come back after `wait_ms`, within bounds.
        """
        if not self._sequences:
            return None
        bounds = (
            ("max_waiting", self.num_outputs + num_outputs, self._max_outputs),
            (
                "max_waiting_prompt_tokens",
                self.num_prompt_tokens + num_prompt_tokens,
                self._max_prompt_tokens,
            ),
        )
        for name, value, limit in bounds:
            if value > limit:
                return _queue_full(name, value, limit, wait_ms)
        return None

    def add(self, sequence: Sequence) -> None:
        """Put it where its precedence says."""
        bisect.insort(self._sequences, sequence, key=lambda other: other.precedence)
        self.num_outputs += sequence.num_outputs
        self.num_prompt_tokens += sequence.request.num_prompt_tokens

    def remove(self, sequence: Sequence) -> None:
        """Take it out, wherever it stands."""
        place = bisect.bisect_left(
            self._sequences, sequence.precedence, key=lambda other: other.precedence
        )
        assert self._sequences[place] is sequence, f"{sequence.precedence} does not wait"
        del self._sequences[place]
        self.num_outputs -= sequence.num_outputs
        self.num_prompt_tokens -= sequence.request.num_prompt_tokens


def _queue_full(name: str, value: int, limit: int, wait_ms: float) -> ResourceExhaustedError:
    return ResourceExhaustedError(
        f"The worker's queue is full: {value} would wait; {name} is {limit}.",
        reason="QUEUE_FULL",
        metadata={"field": name, "value": str(value), "limit": str(limit)},
        retry_delay_ms=round(min(max(wait_ms, _SHORTEST_RETRY_MS), _LONGEST_RETRY_MS)),
    )
