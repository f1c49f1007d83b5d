"""What a client saw of one request."""

from __future__ import annotations

import time

from octavo.bench.workload import Job


class Sample:
    """Filled while the answer comes. Times are of time.monotonic(), in seconds.

    `arrivals` are the deltas that brought text: usually one a token, fewer where the client was
    slow or a character takes several tokens.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.sent_at = time.monotonic()
        self.due_at = self.sent_at  # earlier where the load could not send it in time
        self.arrivals: list[float] = []
        self.num_tokens = 0
        self.ended_at = self.sent_at
        self.is_cancelled = False
        self.error: str | None = None  # its reason, in UPPER_SNAKE_CASE

    @property
    def is_finished(self) -> bool:
        """Whether the whole answer came."""
        return self.error is None and not self.is_cancelled

    @property
    def first_token_s(self) -> float | None:
        """From when the request was due to its first text; None where none came."""
        return self.arrivals[0] - self.due_at if self.arrivals else None

    @property
    def gaps_s(self) -> list[float]:
        """Between one text and the next: what a reader waits."""
        return [
            later - earlier
            for earlier, later in zip(self.arrivals, self.arrivals[1:], strict=False)
        ]

    @property
    def token_s(self) -> float | None:
        """Seconds a token after the first; None where there were not two."""
        if len(self.arrivals) < 2 or self.num_tokens < 2:
            return None
        return (self.arrivals[-1] - self.arrivals[0]) / (self.num_tokens - 1)

    def take_delta(self) -> bool:
        """Takes note of new text; whether the client cancels now."""
        self.arrivals.append(time.monotonic())
        cancels_now = len(self.arrivals) == self.job.cancel_after
        self.is_cancelled = self.is_cancelled or cancels_now
        return cancels_now

    def take_usage(self, num_tokens: int) -> None:
        """Takes note of how many tokens the whole answer has."""
        self.num_tokens = num_tokens

    def fail(self, reason: str) -> None:
        """Takes note of why the answer ended early."""
        self.error = reason

    def end(self) -> Sample:
        """The sample, complete. A cancelled answer has as many tokens as texts were seen."""
        self.ended_at = time.monotonic()
        if not self.is_finished:
            self.num_tokens = len(self.arrivals)
        elif self.num_tokens != self.job.max_tokens:
            self.error = "WRONG_LENGTH"
        return self
