"""How fast the group works and how long its outputs get: learned from what has run."""

from __future__ import annotations

_STEP_WEIGHT = 0.05  # of the newest step
_OUTPUT_WEIGHT = 0.1  # of the newest output


class Pace:
    """Running means. Outputs are told apart by the magnitude of the limit that they were given."""

    def __init__(self) -> None:
        self.step_s = 0.0  # 0: no step was seen yet
        self._output_tokens: dict[int | None, float] = {}

    def note_step(self, seconds: float) -> None:
        """A step of a busy group took this long."""
        weight = _STEP_WEIGHT if self.step_s else 1.0
        self.step_s += weight * (seconds - self.step_s)

    def note_output(self, num_tokens: float, max_tokens: int | None) -> None:
        """An output ended with this many tokens; None: it had no limit."""
        key = _magnitude(max_tokens)
        mean = self._output_tokens.setdefault(key, num_tokens)
        self._output_tokens[key] = mean + _OUTPUT_WEIGHT * (num_tokens - mean)

    def output_tokens(self, max_tokens: int | None) -> float:
        """How many tokens an output with this limit will have: the limit, until some have ended."""
        mean = self._output_tokens.get(_magnitude(max_tokens), max_tokens or 0)
        return mean if max_tokens is None else min(mean, max_tokens)


def _magnitude(max_tokens: int | None) -> int | None:
    return None if max_tokens is None else max_tokens.bit_length()
