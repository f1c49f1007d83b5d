"""The largest inputs of each group of matrices over a text: what static scales are made from."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch

from octavo.errors import InWords, invalid_field
from services.worker.checkpoint.reader import tensor_error
from services.worker.engine.runner import Runner
from services.worker.engine.step_plan import Chunk, StepPlan
from services.worker.models import Model
from services.worker.tools.prepare.calibrate import CALIBRATION_PROMPTS
from services.worker.tools.quantize.streamed import MatrixGroup
from services.worker.tools.text_ids import encode_text

_WINDOW_TOKENS = 512
_BLOCK_TOKENS = 16


class LargestInputs:
    """By the names of groups; told of inputs while a model runs."""

    def __init__(self, on_group: Callable[[int], None]) -> None:
        """on_group is told how many groups have been seen."""
        self._largest: dict[tuple[str, ...], float] = {}
        self._on_group = on_group

    def add(self, group: MatrixGroup, inputs: torch.Tensor) -> None:
        """inputs [T, in]. Raises InvalidArgumentError where they are not finite."""
        largest = float(inputs.abs().max())
        if not math.isfinite(largest):
            what = "gets inputs from the calibration text that are not finite"
            raise tensor_error("the checkpoint", f"{group.names[0]}.weight", what)
        self._largest[group.names] = max(largest, self._largest.get(group.names, 0.0))
        self._on_group(len(self._largest))

    def of(self, group: MatrixGroup) -> float:
        """The largest magnitude of what the group's matrices multiply."""
        return self._largest[group.names]


def calibration_windows(
    folder: Path, text: str | None, *, num_tokens: int, max_context: int
) -> list[tuple[int, ...]]:
    """At most `num_tokens` ids of `text`, or of a few prompts where there is none, in windows.

    Raises InvalidArgumentError for a text without tokens.
    """
    texts: Iterable[str] = CALIBRATION_PROMPTS if text is None else (text,)
    length = min(_WINDOW_TOKENS, max_context)
    windows = [window for each in texts for window in encode_text(folder, each).windows(length)]
    if not windows:
        raise invalid_field("--calibration", InWords("0 tokens"), "at least 1 token")
    kept: list[tuple[int, ...]] = []
    for window in windows:
        num_left = num_tokens - sum(map(len, kept))
        kept += [window[:num_left]] if num_left else []
    return kept


@torch.inference_mode()
def run_windows(model: Model, windows: Sequence[Sequence[int]]) -> None:
    """All windows in one step, each by itself, so that every matrix is read once.

    Raises InvalidArgumentError for ids that the model does not have.
    """
    vocabulary = model.config.vocab_size
    largest = max(map(max, windows))
    if largest >= vocabulary:
        limit = f"ids below {vocabulary}, the vocabulary of config.json"
        raise invalid_field("the tokenizer", InWords(f"giving the id {largest}"), limit)
    sizes = [-(-len(window) // _BLOCK_TOKENS) for window in windows]
    chunks = tuple(
        Chunk(token_ids=tuple(window), start=0, block_table=tuple(range(end - size, end)))
        for window, size, end in zip(windows, sizes, itertools.accumulate(sizes), strict=True)
    )
    runner = Runner(model, num_blocks=sum(sizes), block_tokens=_BLOCK_TOKENS)
    runner.run(StepPlan(chunks=chunks))
