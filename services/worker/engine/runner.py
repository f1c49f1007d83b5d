"""Does what a step plan says: plan -> batch -> logits -> token ids."""

from __future__ import annotations

import torch

from services.worker.batch import Batch
from services.worker.engine.sampling import sample
from services.worker.engine.step_plan import Chunk, StepPlan
from services.worker.engine.step_result import NotDrawn
from services.worker.models import Model


class Runner:
    """The model and its KV cache, on this rank's device."""

    def __init__(self, model: Model, *, num_blocks: int, block_tokens: int) -> None:
        self._model = model
        self._kv_cache = model.allocate_kv_cache(num_blocks, block_tokens)
        self._block_tokens = block_tokens

    @torch.inference_mode()
    def run(self, plan: StepPlan) -> list[int | NotDrawn]:
        """The ids drawn, in the order of plan.draws.

        What the model raises is raised: then this rank has no state worth keeping.
        """
        if not plan.chunks:
            return []
        batch = build_batch(
            plan, block_tokens=self._block_tokens, device=self._kv_cache.storage.device
        )
        logits = self._model.forward(batch, self._kv_cache)  # [L, vocabulary] float32
        draws = plan.draws
        assert logits.shape[0] == len(draws), f"{len(draws)} rows wanted, {logits.shape[0]} given"
        return sample(logits, draws)


def build_batch(plan: StepPlan, *, block_tokens: int, device: torch.device) -> Batch:
    """The tensors of a plan. Rows follow the chunks; a chunk that draws gives its last row."""
    chunks = plan.chunks
    lengths = torch.tensor([len(chunk.token_ids) for chunk in chunks])
    query_starts = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))  # [S + 1]
    starts = torch.tensor([chunk.start for chunk in chunks])
    token_ids = torch.tensor([token_id for chunk in chunks for token_id in chunk.token_ids])
    sequence_of_row = torch.repeat_interleave(torch.arange(len(chunks)), lengths)  # [T]
    row_in_chunk = torch.arange(plan.num_tokens) - query_starts[sequence_of_row]
    positions = starts[sequence_of_row] + row_in_chunk
    block_tables = _pad_block_tables(chunks)
    blocks = block_tables[sequence_of_row, positions // block_tokens]
    drawing = torch.tensor([chunk.draw is not None for chunk in chunks])
    return Batch(
        token_ids=token_ids.to(device),
        positions=positions.to(device),
        slots=(blocks * block_tokens + positions % block_tokens).to(device),
        query_starts=query_starts.to(device),
        context_lengths=(starts + lengths).to(device),
        block_tables=block_tables.to(device),
        logit_rows=(query_starts[1:][drawing] - 1).to(device),
    )


def _pad_block_tables(chunks: tuple[Chunk, ...]) -> torch.Tensor:
    """[S, most blocks] int64, padded with 0."""
    most = max(len(chunk.block_table) for chunk in chunks)
    rows = [chunk.block_table + (0,) * (most - len(chunk.block_table)) for chunk in chunks]
    return torch.tensor(rows)
