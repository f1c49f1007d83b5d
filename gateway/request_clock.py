"""The times of a request as its gateway sees them, where its worker's own do not come."""

from __future__ import annotations

import time

from octavo.client.services.worker_types import Timings


class RequestClock:
    """One request. `arrived_at` is on time.monotonic()."""

    def __init__(self, arrived_at: float) -> None:
        self._arrived_at = arrived_at
        self._submitted_at = time.monotonic()
        self._scheduled_at: float | None = None
        self._first_token_at: float | None = None
        self._last_token_at: float | None = None

    @property
    def queue_ms(self) -> float:
        """From submission until the worker scheduled it, or until now where it has not."""
        return _ms(self._submitted_at, self._scheduled_at or time.monotonic())

    @property
    def first_token_ms(self) -> float:
        """From arrival to the first token; 0 where none came."""
        return _ms(self._arrived_at, self._first_token_at)

    def note(self, *, has_tokens: bool) -> None:
        """Takes note of an item that came now."""
        now = time.monotonic()
        self._scheduled_at = self._scheduled_at or now
        if has_tokens:
            self._first_token_at = self._first_token_at or now
            self._last_token_at = now

    def timings(self) -> Timings:
        """The times as far as they can be told from here."""
        return Timings(
            queue_ms=self.queue_ms,
            prefill_ms=_ms(self._scheduled_at, self._first_token_at),
            decode_ms=_ms(self._first_token_at, self._last_token_at),
        )


def _ms(begin: float | None, end: float | None) -> float:
    return 0.0 if begin is None or end is None else 1_000 * (end - begin)
