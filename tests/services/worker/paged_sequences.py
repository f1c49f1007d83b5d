"""Sequences on a paged cache, and the batches that step them: the runner's work, in small."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch

from services.worker.batch import Batch
from services.worker.models import KVCache, Model


@dataclass(eq=False)
class PagedSequence:
    """Ids of which the first `num_done` are in the cache."""

    ids: list[int]
    num_done: int = 0
    blocks: list[int] = field(default_factory=list)


class PagedSequences:
    """Steps sequences of one model; blocks are dealt out from the last to the first."""

    def __init__(self, model: Model, num_blocks: int = 400, block_tokens: int = 16) -> None:
        self.model = model
        self.cache: KVCache = model.allocate_kv_cache(num_blocks, block_tokens)
        self._free = list(range(num_blocks))

    def step(self, work: Sequence[tuple[PagedSequence, int]]) -> torch.Tensor:
        """Runs the next n ids of each sequence; the logits of each one's last id."""
        rows: list[tuple[int, int, int]] = []  # id, position, slot
        starts, contexts = [0], []
        for sequence, num_ids in work:
            rows += self._rows(sequence, num_ids)
            starts.append(len(rows))
            contexts.append(sequence.num_done)
        most = max(len(sequence.blocks) for sequence, _ in work)
        tables = [item.blocks + [0] * (most - len(item.blocks)) for item, _ in work]
        ids, positions, slots = torch.tensor(rows).T.contiguous().unbind()
        device = self.cache.storage.device
        batch = Batch(
            token_ids=ids.to(device),
            positions=positions.to(device),
            slots=slots.to(device),
            query_starts=torch.tensor(starts, device=device),
            context_lengths=torch.tensor(contexts, device=device),
            block_tables=torch.tensor(tables, device=device),
            logit_rows=torch.tensor(starts[1:], device=device) - 1,
        )
        return self.model.forward(batch, self.cache)

    def logits_alone(self, ids: Sequence[int], num_prompt: int) -> torch.Tensor:
        """A sequence by itself: the logits after its prompt and after each later id."""
        sequence = PagedSequence(list(ids))
        chunks = [num_prompt] + [1] * (len(ids) - num_prompt)
        logits = [self.step([(sequence, chunk)])[0] for chunk in chunks]
        self.release([sequence])
        return torch.stack(logits)

    def greedy(self, prompt: Sequence[int], num_tokens: int) -> tuple[torch.Tensor, list[int]]:
        """The logits after the prompt, and the ids that greedy decoding gives."""
        sequence = PagedSequence(list(prompt))
        first = logits = self.step([(sequence, len(prompt))])[0]
        made = [int(logits.argmax())]
        while len(made) < num_tokens:
            sequence.ids.append(made[-1])
            made.append(int(self.step([(sequence, 1)])[0].argmax()))
        self.release([sequence])
        return first, made

    def greedy_together(self, prompts: Sequence[Sequence[int]], num_tokens: int) -> list[list[int]]:
        """The ids that greedy decoding gives, all sequences in the same steps."""
        sequences = [PagedSequence(list(prompt)) for prompt in prompts]
        for _ in range(num_tokens):
            work = [(item, len(item.ids) - item.num_done) for item in sequences]
            for item, token in zip(sequences, self.step(work).argmax(-1).tolist(), strict=True):
                item.ids.append(token)
        self.release(sequences)
        return [item.ids[-num_tokens:] for item in sequences]

    def release(self, sequences: Iterable[PagedSequence]) -> None:
        for sequence in sequences:
            self._free += sequence.blocks
            sequence.blocks = []

    def _rows(self, sequence: PagedSequence, num_ids: int) -> list[tuple[int, int, int]]:
        start, stop = sequence.num_done, sequence.num_done + num_ids
        size = self.cache.block_tokens
        while len(sequence.blocks) * size < stop:
            sequence.blocks.append(self._free.pop())
        sequence.num_done = stop
        slots = [sequence.blocks[n // size] * size + n % size for n in range(start, stop)]
        return list(zip(sequence.ids[start:stop], range(start, stop), slots, strict=True))
