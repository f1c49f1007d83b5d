"""Engines that take turns: a turn of one, the same of the next, again and again.

What else the machine does then hits all of them. A turn during which other processes took more than
a share of the machine is dropped, by the same rule on all sides; where none is left, all count and
the result says that none was quiet.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import psutil

from benchmarks._machine import Processes, measured, wait_until_quiet
from benchmarks._stepping import SteppingProcess

# Threads of the engine whose turn it was may spin for a while, waiting for more.
_PAUSE_S = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """What one engine did in one turn."""

    tokens_per_s: float
    others_share: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Interleaving:
    """The engines by name, and the rule for turns."""

    engines: Mapping[str, SteppingProcess]
    turns: int
    others_limit: float
    patience_s: float

    def decode(self, streams: int, context: int, steps: int) -> dict[str, list[Turn]]:
        """Turns of `steps` steps each, from prompts of `context` tokens on."""
        for engine in self.engines.values():
            engine.ask("open", streams=streams, context=context)
        turns = self._take("decode", steps=steps)
        for engine in self.engines.values():
            engine.ask("close")
        return turns

    def prefill(self, tokens: int) -> dict[str, list[Turn]]:
        """Turns of one prompt each."""
        return self._take("prefill", tokens=tokens)

    def _take(self, do: str, **arguments: int) -> dict[str, list[Turn]]:
        for engine in self.engines.values():
            engine.ask(do, **arguments)  # the first warms caches, and counts for nobody
        turns: dict[str, list[Turn]] = {name: [] for name in self.engines}
        for _ in range(self.turns):
            for name, engine in self.engines.items():
                turns[name].append(self._turn(engine, do, arguments))
        return turns

    def _turn(self, engine: SteppingProcess, do: str, arguments: Mapping[str, int]) -> Turn:
        ours: Processes = {
            "parent": [psutil.Process()],
            "engines": [each.process for each in self.engines.values()],
        }
        time.sleep(_PAUSE_S)
        wait_until_quiet(ours, limit=self.others_limit, patience_s=self.patience_s)
        with measured(ours) as usage:
            answer = engine.ask(do, **arguments)
        return Turn(
            tokens_per_s=answer["tokens"] / answer["seconds"], others_share=usage.others_share
        )


def figure(turns: Sequence[Turn], others_limit: float) -> dict[str, Any]:
    """Tokens a second: median, lowest and highest of the quiet turns, and how many were kept."""
    quiet = [turn for turn in turns if turn.others_share <= others_limit]
    rates = [turn.tokens_per_s for turn in quiet or turns]
    return {
        "tokens_per_s": round(median(rates), 1),
        "lowest": round(min(rates), 1),
        "highest": round(max(rates), 1),
        "kept": len(quiet),
        "dropped": len(turns) - len(quiet),
    }
