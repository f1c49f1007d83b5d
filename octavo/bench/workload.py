"""Which requests a load is made of: prompts, lengths and cancels, all from one seed."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One request: ids in, `max_tokens` out.

    Its client cancels it once it has had `cancel_after` deltas; None: it waits for the end.
    """

    number: int
    prompt_ids: tuple[int, ...]
    max_tokens: int
    cancel_after: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """Mixed prompts of random ids. Equal workloads have equal jobs.

    Lengths are spread evenly over the logarithm: as many prompts of 5 to 10 ids as of 200 to 400.
    `cancelled_share` of the jobs are cancelled, each after a random part of its output.
    """

    vocabulary_size: int
    max_tokens: int
    shortest_prompt: int = 5  # ids
    longest_prompt: int = 400
    cancelled_share: float = 0.0
    seed: int = 0

    def jobs(self) -> Iterator[Job]:
        """Jobs without end."""
        rng = random.Random(self.seed)  # noqa: S311 - a load, no secret
        number = 0
        while True:
            prompt = tuple(rng.randrange(self.vocabulary_size) for _ in range(self._length(rng)))
            is_cancelled = rng.random() < self.cancelled_share
            cancel_after = rng.randint(1, max(1, self.max_tokens - 1))
            yield Job(
                number=number,
                prompt_ids=prompt,
                max_tokens=self.max_tokens,
                cancel_after=cancel_after if is_cancelled else None,
            )
            number += 1

    def _length(self, rng: random.Random) -> int:
        shortest, longest = math.log(self.shortest_prompt), math.log(self.longest_prompt)
        return round(math.exp(rng.uniform(shortest, longest)))
