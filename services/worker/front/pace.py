"""How fast the group works and how long its outputs get: learned from what has run."""

from __future__ import annotations

_STEP_WEIGHT = 0.05  # of the newest step
_OUTPUT_WEIGHT = 0.1  # of the newest output
_FEW = 2  # outputs that hardly slow each other down
# Of a step's time, until it is known how long one takes with few outputs.
_FIXED_SHARE = 0.5


class Pace:
    """Running means. A step takes the longer the more outputs it has; a line through its time with
    few outputs and its mean time says how long. Outputs are told apart by the magnitude of the
    limit that they were given.
    """

    def __init__(self) -> None:
        self._step_s = 0.0  # 0: no step was seen yet
        self._outputs = 1.0  # in those steps
        self._few_s = 0.0  # a step with few outputs; 0: none was seen yet
        self._output_tokens: dict[int | None, float] = {}

    @property
    def alone_step_s(self) -> float | None:
        """Seconds of a step with one output, None where that is not known."""
        return self._few_s or None

    def step_s(self, num_outputs: float) -> float:
        """Seconds of a step with so many outputs; 0 where nothing is known."""
        fixed_s = min(self._few_s or _FIXED_SHARE * self._step_s, self._step_s)
        return fixed_s + (self._step_s - fixed_s) * num_outputs / self._outputs

    def note_step(self, seconds: float, num_outputs: int) -> None:
        """A step with so many outputs took this long."""
        weight = _STEP_WEIGHT if self._step_s else 1.0
        self._step_s += weight * (seconds - self._step_s)
        self._outputs += weight * (max(1, num_outputs) - self._outputs)
        if num_outputs <= _FEW:
            weight = _STEP_WEIGHT if self._few_s else 1.0
            self._few_s += weight * (seconds - self._few_s)

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
