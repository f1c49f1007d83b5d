"""Windows of a text through the engine: the same steps and kernels as for a request."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.worker.engine.engine import Engine, EngineConfig
from services.worker.engine.request import LogprobOptions, Sampling, Submission
from services.worker.models import Model

_STEP_TOKENS = 512
_BLOCK_TOKENS = 16

OnWindow = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """What the tokens of a text add up to."""

    num_tokens: int  # that were scored
    log_likelihood: float  # the sum of ln p, in nats

    @property
    def loss(self) -> float:
        """Nats a token."""
        return -self.log_likelihood / self.num_tokens

    @property
    def perplexity(self) -> float:
        """How many equally likely tokens the model hesitates between."""
        return math.exp(self.loss)


def score_windows(
    model: Model, windows: Sequence[Sequence[int]], on_window: OnWindow = lambda done, total: None
) -> Score:
    """Scores every token but the first of each window; a window has at least 2 tokens.

    Raises what the engine refuses a window with. on_window is told (done, total).
    """
    engine = Engine(model=model, config=_config(windows))
    for key, window in enumerate(windows):
        engine.submit(_submission(key, window))
    logprobs: list[float] = []
    num_done = 0
    on_window(0, len(windows))
    while engine.has_work:
        for item in engine.step().items:
            if item.error is not None:
                raise item.error
            logprobs += [token.logprob for token in item.prompt_logprobs]
            num_done += item.finish is not None
        on_window(num_done, len(windows))
    return Score(num_tokens=len(logprobs), log_likelihood=math.fsum(logprobs))


def _config(windows: Sequence[Sequence[int]]) -> EngineConfig:
    """One window at a time: its blocks are free again when the next begins."""
    longest = max(map(len, windows))
    return EngineConfig(
        num_blocks=-(-longest // _BLOCK_TOKENS),
        block_tokens=_BLOCK_TOKENS,
        max_step_tokens=_STEP_TOKENS,
        max_running=1,
        max_waiting=len(windows),
        max_waiting_prompt_tokens=sum(map(len, windows)),
        max_context=longest,
    )


def _submission(key: int, window: Sequence[int]) -> Submission:
    return Submission(
        key=key,
        request_id=f"window {key}",
        prompt_ids=tuple(window),
        sampling=Sampling(temperature=0),
        logprobs=LogprobOptions(prompt=True),
        max_tokens=0,
        arrived_at=time.monotonic(),
    )
