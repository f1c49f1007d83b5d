"""Whether a request may wait: the queue is bounded, and what cannot end in time has no place in it.

Decided here because it is decided at once: the ranks answer between two steps only.
"""

from __future__ import annotations

from dataclasses import dataclass

from octavo.errors import ResourceExhaustedError
from octavo.v1 import worker_pb2
from services.worker.front.forecast import Forecast

# A group with fewer of its places taken does not refuse what could not even end in time alone: its
# client may want what there is until the deadline, and takes it from few.
BUSY_SHARE = 0.5
# The deadline must leave this much more time than is forecast.
MARGIN = 1.2
_SHORTEST_RETRY_MS = 100.0
_LONGEST_RETRY_MS = 10_000.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What the ranks take; see WorkerSettings."""

    max_running: int
    max_step_tokens: int
    max_waiting: int
    max_waiting_prompt_tokens: int


class Admission:
    """Refuses what has no place; `forecast` hears of all that is taken."""

    def __init__(self, limits: Limits) -> None:
        self.forecast = Forecast(
            max_running=limits.max_running, max_step_tokens=limits.max_step_tokens
        )
        self._limits = limits

    def check(self, submit: worker_pb2.Submit) -> None:
        """Raises ResourceExhaustedError, with when to try again."""
        if self.forecast.num_waiting:  # an empty queue takes any prompt
            self._check_bounds(submit.sampling.n or 1, len(submit.prompt_token_ids))
        if submit.HasField("deadline_ms"):
            self._check_deadline(submit)

    def _check_bounds(self, num_outputs: int, num_prompt_tokens: int) -> None:
        forecast, limits = self.forecast, self._limits
        num_waiting_tokens = forecast.num_waiting_prompt_tokens + num_prompt_tokens
        bounds = (
            ("max_waiting", forecast.num_waiting + num_outputs, limits.max_waiting),
            ("max_waiting_prompt_tokens", num_waiting_tokens, limits.max_waiting_prompt_tokens),
        )
        for name, value, limit in bounds:
            if value > limit:
                raise ResourceExhaustedError(
                    f"The worker's queue is full: {value} would wait; {name} is {limit}.",
                    reason="QUEUE_FULL",
                    metadata={"field": name, "value": str(value), "limit": str(limit)},
                    retry_delay_ms=_retry_delay_ms(forecast.start_s(num_prompt_tokens)),
                )

    def _check_deadline(self, submit: worker_pb2.Submit) -> None:
        needed_ms = round(1e3 * MARGIN * self.forecast.end_s(submit))
        if needed_ms > submit.deadline_ms and self._load_is_why(submit):
            raise ResourceExhaustedError(
                f"The worker's queue is too long: the deadline is in {submit.deadline_ms} ms; it "
                f"would have to be in {needed_ms} ms or later.",
                reason="QUEUE_TOO_LONG",
                metadata={
                    "field": "deadline_ms",
                    "value": str(submit.deadline_ms),
                    "limit": str(needed_ms),
                },
                retry_delay_ms=_retry_delay_ms(self.forecast.start_s(len(submit.prompt_token_ids))),
            )

    def _load_is_why(self, submit: worker_pb2.Submit) -> bool:
        """Whether the request could end in time were it alone, or the group is busy."""
        if self.forecast.num_outputs >= BUSY_SHARE * self._limits.max_running:
            return True
        alone_s = self.forecast.end_alone_s(submit)
        return alone_s is not None and 1e3 * MARGIN * alone_s <= submit.deadline_ms


def _retry_delay_ms(wait_s: float) -> int:
    return round(min(max(1e3 * wait_s, _SHORTEST_RETRY_MS), _LONGEST_RETRY_MS))
