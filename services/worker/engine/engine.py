"""The engine: requests in, tokens out, one step at a time. It knows token ids, never text.

    engine = Engine(model=model, config=EngineConfig(...))
    engine.submit(submission)
    while engine.has_work:
        output = engine.step()      # schedule -> run -> postprocess

Not thread-safe: one loop owns it.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable

from octavo.errors import InvalidArgumentError
from services.worker.engine.engine_config import EngineConfig
from services.worker.engine.request import Submission
from services.worker.engine.runner import Runner
from services.worker.engine.scheduler import Scheduler
from services.worker.engine.step_output import Load, StepOutput
from services.worker.models import Model

__all__ = ["Engine", "EngineConfig"]


class Engine:
    """A model, its KV cache, and the requests that share them."""

    def __init__(
        self,
        *,
        model: Model,
        config: EngineConfig,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` gives seconds; the times of submissions are on it."""
        self._config = config
        self._vocabulary_size = model.config.vocab_size
        self._scheduler = Scheduler(config)
        self._runner = Runner(model, num_blocks=config.num_blocks, block_tokens=config.block_tokens)
        self._clock = clock

    @property
    def has_work(self) -> bool:
        """Whether a step would run or report anything."""
        return self._scheduler.has_work

    @property
    def load(self) -> Load:
        """How busy the engine is now."""
        return self._scheduler.load

    def submit(self, submission: Submission) -> None:
        """Take a request. A refusal comes as its error in the next step's output."""
        refusal = find_bad_ids(submission, self._config.context_limit, self._vocabulary_size)
        if refusal is not None:
            self._scheduler.refuse(submission, refusal)
        else:
            self._scheduler.submit(submission, self._clock())

    def cancel(self, keys: Iterable[int]) -> None:
        """End requests early; the next step's output says so. Unknown keys are ignored."""
        self._scheduler.cancel(keys, self._clock())

    def cancel_outputs(self, outputs: Iterable[tuple[int, int]]) -> None:
        """End single outputs early, each named by key and index; the others go on."""
        for key, index in outputs:
            self._scheduler.cancel_output(key, index, self._clock())

    def step(self) -> StepOutput:
        """Run one step. What the model raises is raised, and ends the engine."""
        plan = self._scheduler.schedule(self._clock())
        results = self._runner.run(plan)
        items = self._scheduler.postprocess(results, self._clock())
        return StepOutput(items=items, load=self._scheduler.load)


def find_bad_ids(
    submission: Submission, context_limit: int, vocabulary_size: int
) -> InvalidArgumentError | None:
    """Why this model can never run these ids, or None if it can."""
    num_prompt_tokens = len(submission.prompt_ids)
    if num_prompt_tokens == 0:
        return _bad_ids("prompt_token_ids", "no ids", "at least 1 id")
    num_drawn = 0 if submission.max_tokens == 0 else 1
    if num_prompt_tokens + num_drawn > context_limit:
        limit = f"at most {context_limit - num_drawn} ids, so that {num_drawn} of {context_limit}"
        return _bad_ids(
            "prompt_token_ids", f"{num_prompt_tokens} ids", f"{limit} is left for output"
        )
    num_forced = len(submission.forced_ids)
    if num_prompt_tokens + num_forced > context_limit:
        limit = (
            f"at most {context_limit - num_prompt_tokens} ids after {num_prompt_tokens} of prompt"
        )
        return _bad_ids("forced_token_ids", f"{num_forced} ids", limit)
    for field, token_ids in (
        ("prompt_token_ids", submission.prompt_ids),
        ("generated", tuple(itertools.chain.from_iterable(submission.generated_ids))),
        ("forced_token_ids", submission.forced_ids),
    ):
        for extreme in (min(token_ids, default=0), max(token_ids, default=0)):
            if not 0 <= extreme < vocabulary_size:
                limit = f"ids from 0 to {vocabulary_size - 1}"
                return _bad_ids(field, f"the id {extreme}", limit)
    return None


def _bad_ids(field: str, value: str, limit: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"{field} holds {value}; it must hold {limit}.",
        reason="INVALID_FIELD",
        metadata={"field": field, "value": value, "limit": limit},
    )
