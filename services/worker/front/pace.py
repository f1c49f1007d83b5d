"""How fast the group works and how long its outputs get: learned from what has run."""

from __future__ import annotations

_STEP_WEIGHT = 0.05  # of the newest step
_OUTPUT_WEIGHT = 0.1  # of the newest output
_FEW = 2  # outputs that hardly slow each other down
_MANY = 8  # outputs on average, from which on their steps tell how much they do
# A step that takes longer than so many times what was expected says little of those to come: the
# machine stood still. One that is slower for good is learned in a few dozen steps.
_MOST_SURPRISE = 2.0
_MOST_GROWTH = 4.0  # of a batch, in a guess
# Of a step's time, until it is known how long one takes with few outputs.
_FIXED_SHARE = 0.5


class Pace:
    """Running means. A step takes the longer the more outputs it has, and the more tokens of
    prompts: a line through its time with few outputs and its mean time says the first, what it
    takes beyond that line the second. Outputs are told apart by the magnitude of their limit.
    """

    def __init__(self) -> None:
        self.prompt_tokens_per_step = 0.0
        self._step_s = 0.0  # without its prompts; 0: no step was seen yet
        self._outputs = 1.0  # in those steps
        self._few_s = 0.0  # a step with few outputs; 0: none was seen yet
        self._prompts_s = 0.0  # what prompts took, and
        self._prompt_tokens = 0.0  # their tokens, both fading
        self._output_tokens: dict[int | None, float] = {}

    @property
    def alone_step_s(self) -> float | None:
        """Seconds of a step with one output, None where that is not known."""
        return self._few_s or None

    @property
    def prompt_token_s(self) -> float:
        """Seconds that a token of a prompt adds to its step."""
        return self._prompts_s / self._prompt_tokens if self._prompt_tokens else 0.0

    def step_s(self, num_outputs: float) -> float:
        """Seconds of a step with so many outputs and no prompt; 0 where nothing is known.

        Guesses are low where little is known: what is taken teaches, what is refused does not.
        """
        if self._outputs < _MANY:
            return self._step_s
        num_outputs = min(num_outputs, _MOST_GROWTH * self._outputs)
        fixed_s = min(self._few_s or _FIXED_SHARE * self._step_s, self._step_s)
        return fixed_s + (self._step_s - fixed_s) * num_outputs / self._outputs

    def note_step(self, seconds: float, num_outputs: int, num_prompt_tokens: int = 0) -> None:
        """A step with so many outputs, and so many tokens of prompts, took this long."""
        self.prompt_tokens_per_step += _STEP_WEIGHT * (
            num_prompt_tokens - self.prompt_tokens_per_step
        )
        prompts_s = self.prompt_token_s * num_prompt_tokens
        if self._step_s and (prompts_s or not num_prompt_tokens):
            expected_s = self.step_s(num_outputs) + prompts_s
            seconds = min(seconds, _MOST_SURPRISE * expected_s)
        prompts_s = min(seconds, prompts_s)
        if num_prompt_tokens:
            self._note_prompts(max(0.0, seconds - self.step_s(num_outputs)), num_prompt_tokens)
        if self._step_s or not num_prompt_tokens:  # else nothing tells the two apart
            self._note_outputs(seconds - prompts_s, num_outputs)

    def _note_prompts(self, seconds: float, num_tokens: int) -> None:
        self._prompts_s += seconds - _STEP_WEIGHT * self._prompts_s
        self._prompt_tokens += num_tokens - _STEP_WEIGHT * self._prompt_tokens

    def _note_outputs(self, seconds: float, num_outputs: int) -> None:
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
