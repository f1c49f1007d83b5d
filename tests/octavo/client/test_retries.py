"""How often and when a refused call is made again."""

from __future__ import annotations

import pytest

from octavo.client.retries import LONGEST_DELAY_S, Attempts
from octavo.errors import InternalError, OctavoError, ResourceExhaustedError, UnavailableError


def attempts(*, retries: int = 3, timeout_s: float | None = None) -> tuple[Attempts, list[float]]:
    """Attempts, and the clock that they look at."""
    now = [100.0]
    return Attempts(retries=retries, timeout_s=timeout_s, clock=lambda: now[0]), now


def busy(retry_delay_ms: int | None) -> OctavoError:
    return ResourceExhaustedError("busy", retry_delay_ms=retry_delay_ms)


def test_the_server_says_when() -> None:
    made, _ = attempts()
    delay_s = made.delay_after(busy(1_000))
    assert delay_s is not None and 1.0 <= delay_s <= 1.2


def test_without_a_word_the_delay_grows() -> None:
    made, _ = attempts()
    delays = [made.delay_after(UnavailableError("gone")) or 0 for _ in range(3)]
    for delay_s, middle_s in zip(delays, (0.2, 0.4, 0.8), strict=True):
        assert delay_s == pytest.approx(middle_s, rel=0.21)
    assert made.delay_after(UnavailableError("gone")) is None


@pytest.mark.parametrize("error", [busy(None), InternalError("broken")])
def test_a_failure_that_time_does_not_mend_is_final(error: OctavoError) -> None:
    assert attempts()[0].delay_after(error) is None


def test_nobody_waits_longer_than_the_timeout_or_the_limit() -> None:
    assert attempts(timeout_s=0.9)[0].delay_after(busy(1_000)) is None
    assert attempts()[0].delay_after(busy(int(LONGEST_DELAY_S * 1_000) + 1_000)) is None


def test_all_attempts_share_the_timeout() -> None:
    made, now = attempts(timeout_s=2)
    assert made.remaining_s == 2
    now[0] += 1.5
    assert made.remaining_s == 0.5
    now[0] += 5
    assert made.remaining_s == 0
    assert attempts()[0].remaining_s is None
