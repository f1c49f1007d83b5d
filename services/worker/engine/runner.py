"""Does what a step plan says: plan -> batch -> hidden states -> logits -> token ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch

from services.worker.batch import Batch
from services.worker.engine.logprobs import token_logprobs
from services.worker.engine.sampling import sample
from services.worker.engine.step_plan import Chunk, Draw, StepPlan
from services.worker.engine.step_result import ChunkResult, Drawn, TokenLogprob
from services.worker.models import Model

# Rows whose logits exist at once while known tokens are scored: a prompt's would not fit.
_SCORED_ROWS = 64


class Runner:
    """The model and its KV cache, on this rank's device."""

    def __init__(self, model: Model, *, num_blocks: int, block_tokens: int) -> None:
        self._model = model
        self._kv_cache = model.allocate_kv_cache(num_blocks, block_tokens)
        self._block_tokens = block_tokens

    @torch.inference_mode()
    def run(self, plan: StepPlan) -> list[ChunkResult]:
        """What each chunk of the plan gives.

        What the model raises is raised: then this rank has no state worth keeping.
        """
        if not plan.chunks:
            return []
        batch = build_batch(
            plan, block_tokens=self._block_tokens, device=self._kv_cache.storage.device
        )
        if plan.copies:
            self._kv_cache.copy_blocks(
                [copy.source for copy in plan.copies], [copy.destination for copy in plan.copies]
            )
        hidden = self._model.hidden_states(batch, self._kv_cache)  # [L, hidden]
        num_drawing = sum(1 for chunk in plan.chunks if chunk.draws)
        drawn = iter(self._draw(plan, hidden[:num_drawing]))
        scores = self._score(plan, hidden[num_drawing:])
        return [
            ChunkResult(
                drawn=tuple(next(drawn) for _ in chunk.draws),
                scores=tuple(next(scores) for _ in _scored_ids(chunk)),
            )
            for chunk in plan.chunks
        ]

    def _draw(self, plan: StepPlan, hidden: torch.Tensor) -> list[Drawn]:
        """What each draw gives; hidden [chunks that draw, hidden]."""
        draws = [draw for chunk in plan.chunks for draw in chunk.draws]
        if not draws:
            return []
        logits = self._model.logits(hidden)
        argmax = self._model.argmax(logits)
        if len(draws) > len(hidden):  # several outputs draw from one row
            counts = [len(chunk.draws) for chunk in plan.chunks if chunk.draws]
            times = torch.tensor(counts, device=logits.device)
            logits, argmax = (each.repeat_interleave(times, dim=0) for each in (logits, argmax))
        return draw_tokens(logits, draws, argmax.tolist())

    def _score(self, plan: StepPlan, hidden: torch.Tensor) -> Iterator[TokenLogprob | None]:
        """The log probability of each scored token; hidden [scored tokens, hidden]."""
        scored = [
            (token_id, chunk.scoring.num_top_logprobs)
            for chunk in plan.chunks
            if chunk.scoring is not None
            for token_id in chunk.scoring.token_ids
        ]
        for first in range(0, len(scored), _SCORED_ROWS):
            tile = slice(first, first + _SCORED_ROWS)
            token_ids, nums_top = zip(*scored[tile], strict=True)
            yield from token_logprobs(self._model.logits(hidden[tile]), token_ids, nums_top)


def draw_tokens(logits: torch.Tensor, draws: Sequence[Draw], argmax: Sequence[int]) -> list[Drawn]:
    """What each draw gives on its row of logits [L, vocabulary] float32; argmax as for `sample`."""
    token_ids = sample(logits, draws, argmax)
    wanted = [
        (row, token_id, draw.num_top_logprobs)
        for row, (token_id, draw) in enumerate(zip(token_ids, draws, strict=True))
        if draw.num_top_logprobs is not None and isinstance(token_id, int)
    ]
    logprobs: dict[int, TokenLogprob | None] = {}
    if wanted:
        rows, ids, nums_top = zip(*wanted, strict=True)
        found = token_logprobs(logits[torch.tensor(rows, device=logits.device)], ids, nums_top)
        logprobs = dict(zip(rows, found, strict=True))
    return [Drawn(token_id, logprobs.get(row)) for row, token_id in enumerate(token_ids)]


def build_batch(plan: StepPlan, *, block_tokens: int, device: torch.device) -> Batch:
    """The tensors of a plan, by way of numpy: its small operations take a third of torch's time.

    Rows follow the chunks.

    Logits are wanted of the last row of each chunk that draws, then of the rows that score.
    """
    chunks = plan.chunks
    lengths = np.array([len(chunk.token_ids) for chunk in chunks])
    query_starts = np.concatenate(([0], lengths.cumsum()))  # [S + 1]
    starts = np.array([chunk.start for chunk in chunks])
    sequence_of_row = np.arange(len(chunks)).repeat(lengths)  # [T]
    positions = np.arange(plan.num_tokens) + (starts - query_starts[:-1])[sequence_of_row]
    block_tables = _pad_block_tables(chunks)
    blocks = block_tables[sequence_of_row, positions // block_tokens]
    tensors = {
        "token_ids": np.array([token_id for chunk in chunks for token_id in chunk.token_ids]),
        "positions": positions,
        "slots": blocks * block_tokens + positions % block_tokens,
        "query_starts": query_starts,
        "context_lengths": starts + lengths,
        "block_tables": block_tables,
        "logit_rows": _logit_rows(chunks, query_starts),
    }
    return Batch(**{name: torch.from_numpy(values).to(device) for name, values in tensors.items()})


def _pad_block_tables(chunks: tuple[Chunk, ...]) -> npt.NDArray[np.int64]:
    """[S, most blocks], padded with 0."""
    most = max(len(chunk.block_table) for chunk in chunks)
    rows = [chunk.block_table + (0,) * (most - len(chunk.block_table)) for chunk in chunks]
    return np.array(rows)


def _logit_rows(
    chunks: tuple[Chunk, ...], query_starts: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """[L]; query_starts [S + 1]."""
    drawing = np.array([bool(chunk.draws) for chunk in chunks])
    rows = [query_starts[1:][drawing] - 1]
    for chunk, start in zip(chunks, query_starts[:-1].tolist(), strict=True):
        if chunk.scoring is not None:
            first = start + chunk.scoring.first_row
            rows.append(np.arange(first, first + len(chunk.scoring.token_ids)))
    return np.concatenate(rows)


def _scored_ids(chunk: Chunk) -> tuple[int, ...]:
    return () if chunk.scoring is None else chunk.scoring.token_ids
