"""How often a call that was refused is made again, and when.

Only what had no effect the caller saw is repeated: a call that failed before its first event,
with a delay from the server (RetryInfo) or because no server was reached. Never past the timeout.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable

from octavo.errors import OctavoError, UnavailableError

LONGEST_DELAY_S = 10.0
_FIRST_DELAY_S = 0.2


class Attempts:
    """The attempts of one call: at most `retries` after the first, `timeout_s` for all of them."""

    def __init__(
        self,
        *,
        retries: int,
        timeout_s: float | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.timeout_s = timeout_s
        self._clock = clock
        self._deadline = math.inf if timeout_s is None else clock() + timeout_s
        self._retries_left = retries
        self._num_failed = 0

    @property
    def remaining_s(self) -> float | None:
        """What the next attempt may take; None means any time."""
        if math.isinf(self._deadline):
            return None
        return max(0.0, self._deadline - self._clock())

    def delay_after(self, error: OctavoError) -> float | None:
        """How many seconds to wait before the next attempt; None where there is none."""
        delay_s = self._delay_s(error)
        if self._retries_left <= 0 or delay_s > LONGEST_DELAY_S:
            return None
        if self._clock() + delay_s >= self._deadline:
            return None
        self._retries_left -= 1
        self._num_failed += 1
        return delay_s

    def _delay_s(self, error: OctavoError) -> float:
        """Infinite where a retry does not help; jitter keeps a server's callers out of step."""
        if error.retry_delay_ms is not None:
            return error.retry_delay_ms / 1_000 * random.uniform(1.0, 1.2)  # noqa: S311 - no secret
        if isinstance(error, UnavailableError):
            return _FIRST_DELAY_S * 2.0**self._num_failed * random.uniform(0.8, 1.2)  # noqa: S311
        return math.inf
