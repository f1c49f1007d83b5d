"""The queue played forward: when those that wait will have their first token, in steps from now."""

from __future__ import annotations

import heapq
from collections.abc import Iterable


class QueuePlan:
    """Places, each with the step in which it becomes free, and prompts, computed one after the
    other: the first of the queue takes the first places, and its prompt comes after those before.
    """

    def __init__(
        self, lanes: Iterable[float], *, num_free: int, prompt_tokens_per_step: float
    ) -> None:
        """`lanes` are the steps until each running output ends; `num_free` more places are free."""
        self.num_prompt_tokens = 0  # of those that were added
        self._places = [*lanes, *[0.0] * num_free]
        heapq.heapify(self._places)
        self._prompt_tokens_per_step = prompt_tokens_per_step
        self._last_start = 1.0  # nothing starts before the next step

    def start(self, num_outputs: int, num_prompt_tokens: int) -> float:
        """The steps until a request that came last would have its first token."""
        places = heapq.nsmallest(num_outputs, self._places)
        return self._start(max(places, default=0.0), num_prompt_tokens)

    def add(self, num_outputs: int, num_prompt_tokens: int, num_tokens: float) -> None:
        """A request joins the queue; `num_tokens` are expected of each of its outputs."""
        num_places = min(num_outputs, len(self._places))
        place = max((heapq.heappop(self._places) for _ in range(num_places)), default=0.0)
        self._last_start = self._start(place, num_prompt_tokens)
        self.num_prompt_tokens += num_prompt_tokens
        for _ in range(num_places):
            heapq.heappush(self._places, self._last_start + num_tokens)

    def _start(self, place: float, num_prompt_tokens: int) -> float:
        return max(place, self._last_start) + num_prompt_tokens / self._prompt_tokens_per_step
