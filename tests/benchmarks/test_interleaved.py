"""Turns of engines: the order, what is dropped, and what a figure says."""

from __future__ import annotations

from typing import Any, cast

import psutil

from benchmarks._interleaved import Interleaving, Turn, figure
from benchmarks._stepping import SteppingProcess


class FakeEngine:
    """Answers at its rate, and notes what it is asked in a list that it shares."""

    def __init__(self, name: str, tokens_per_s: float, asked: list[str]) -> None:
        self.process = psutil.Process()
        self._name, self._rate, self._asked = name, tokens_per_s, asked

    def ask(self, do: str, **arguments: int) -> dict[str, Any]:
        self._asked.append(f"{self._name} {do}")
        return {"tokens": 100, "seconds": 100 / self._rate}


def interleaving(asked: list[str], turns: int) -> Interleaving:
    engines = {"one": FakeEngine("one", 200.0, asked), "other": FakeEngine("other", 50.0, asked)}
    return Interleaving(
        engines={name: cast("SteppingProcess", engine) for name, engine in engines.items()},
        turns=turns,
        others_limit=1.0,
        patience_s=0.0,
    )


def test_engines_take_turns_after_a_first_that_does_not_count() -> None:
    asked: list[str] = []
    turns = interleaving(asked, 2).decode(streams=4, context=10, steps=5)
    both = ["one decode", "other decode"]
    opened, closed = ["one open", "other open"], ["one close", "other close"]
    assert asked == [*opened, *both, *both, *both, *closed]
    assert [turn.tokens_per_s for turn in turns["one"]] == [200.0, 200.0]
    assert [turn.tokens_per_s for turn in turns["other"]] == [50.0, 50.0]


def test_busy_turns_are_dropped() -> None:
    turns = [
        Turn(tokens_per_s=rate, others_share=share)
        for rate, share in [(10.0, 0.01), (30.0, 0.5), (12.0, 0.05), (11.0, 0.0)]
    ]
    found = figure(turns, others_limit=0.05)
    assert found == {"tokens_per_s": 11.0, "lowest": 10.0, "highest": 12.0, "kept": 3, "dropped": 1}


def test_where_none_was_quiet_all_count_and_it_says_so() -> None:
    turns = [Turn(tokens_per_s=rate, others_share=0.9) for rate in (10.0, 30.0, 20.0)]
    found = figure(turns, others_limit=0.05)
    assert (found["tokens_per_s"], found["kept"], found["dropped"]) == (20.0, 0, 3)
