"""Time left, at the speed so far."""

from __future__ import annotations

from octavo.time_left import time_left_s


def test_the_rest_takes_as_long_as_its_share() -> None:
    assert time_left_s(elapsed_s=10, done=25, total=100) == 30
    assert time_left_s(elapsed_s=10, done=100, total=100) == 0


def test_before_the_speed_is_known_nothing_is_said() -> None:
    assert time_left_s(elapsed_s=0.5, done=25, total=100) is None
    assert time_left_s(elapsed_s=10, done=0, total=100) is None
