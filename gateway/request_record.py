"""What the log and the metrics say of one request, gathered while it runs.

A door opens a record for each request and makes it the current one of its task; whoever learns
something about the request notes it there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Self

from gateway.events import Event, Finished, FinishReason
from octavo.errors import InternalError, OctavoError, http_status

_CANCELLED = 499
_ENDED_BY_US = frozenset({"ABORTED", "WORKER_CANCELLED"})  # whatever was asked


class RequestRecord:
    """One request over either door; over HTTP it may hold several generations."""

    def __init__(self, method: str) -> None:
        self.method = method
        self.model = ""
        self.reason = ""  # why it was not answered to its end
        self._status = 200  # as HTTP has it, over gRPC too
        self._began_at = time.monotonic()
        self._num_prompt_tokens = 0
        self._num_completion_tokens = 0
        self._finish_reasons: list[str] = []
        self._times: dict[str, float] = {}

    @property
    def outcome(self) -> str:
        """How it ended: ok, cancelled, refused (for what it asked, or overload), or failed."""
        if self._status == _CANCELLED:
            return "cancelled"
        if self._status < 400:
            return "ok"
        return "refused" if self._status < 500 and self.reason not in _ENDED_BY_US else "failed"

    @property
    def seconds(self) -> float:
        """Since the record was opened."""
        return time.monotonic() - self._began_at

    def note(self, event: Event) -> None:
        """Takes an event on its way to the client."""
        if isinstance(event, Finished):
            self._finish_reasons.append(event.reason.value)
            if event.reason is FinishReason.CANCELLED:
                self.cancel()

    def count_tokens(self, prompt: int, completion: int) -> None:
        """Adds the tokens of one of its generations."""
        self._num_prompt_tokens += prompt
        self._num_completion_tokens += completion

    def note_times(self, *, queue_ms: float, first_token_ms: float) -> None:
        """The times of a generation that has ended, however it did; 0 where no token came."""
        self._times = {"queue_ms": queue_ms}
        if first_token_ms:
            self._times["first_token_ms"] = first_token_ms

    def cancel(self) -> None:
        """It was ended before its end, for a cause that may still be told."""
        if not self.reason:
            self.reason, self._status = "CANCELLED", _CANCELLED

    def fail_with(self, error: OctavoError) -> None:
        """It failed for this reason."""
        self.fail(error.reason, http_status(error.code))

    def fail(self, reason: str, status: int) -> None:
        """It failed; the first failure is the cause of what follows it."""
        if self._status in (200, _CANCELLED):
            self.reason, self._status = reason, status

    @contextmanager
    def noting_failures(self) -> Iterator[Self]:
        """Notes what the block raises, and lets it pass."""
        try:
            yield self
        except OctavoError as error:
            self.fail_with(error)
            raise
        except (asyncio.CancelledError, GeneratorExit):
            self.cancel()
            raise
        except Exception:
            self.fail_with(InternalError("It was a fault of ours."))
            raise

    def fields(self) -> dict[str, Any]:
        """The fields of its line in the log."""
        fields = {
            "method": self.method,
            "outcome": self.outcome,
            "model": self.model,
            "prompt_tokens": self._num_prompt_tokens,
            "completion_tokens": self._num_completion_tokens,
            "finish": self._finish_reasons,
            "reason": self.reason,
        }
        known = {name: value for name, value in fields.items() if value not in ("", 0, [])}
        times = {**self._times, "ms": 1_000 * self.seconds}
        return {**known, **{name: round(ms, 1) for name, ms in times.items()}}


_current: ContextVar[RequestRecord | None] = ContextVar("request_record", default=None)


def current_record() -> RequestRecord:
    """The record of the request that this task works for; one that nobody reads without a door."""
    return _current.get() or RequestRecord("")


def make_current(record: RequestRecord) -> None:
    """Makes `record` the one of this task, and of the tasks that it starts from now on."""
    _current.set(record)
