"""A model without weights whose next token depends on every token of the context.

Its KV cache holds, in each slot, the token and the position written there. The logits come from a
hash of the context as it is read back through the block table: a wrong slot, block, position or
chunk gives other tokens.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import torch

from octavo.errors import OctavoError
from services.worker.batch import Batch
from services.worker.engine.engine import Engine, EngineConfig
from services.worker.engine.request import Sampling, Submission
from services.worker.engine.step_output import Finish, OutputItem
from services.worker.engine.step_result import TokenLogprob
from services.worker.kernels.reference import ReferenceKernels
from services.worker.models import KVCache, Model

VOCABULARY_SIZE = 50
GREEDY = Sampling(temperature=0.0)
ROOMY = EngineConfig(
    num_blocks=200,
    block_tokens=4,
    max_step_tokens=64,
    max_running=32,
    max_waiting=64,
    max_waiting_prompt_tokens=10_000,
    max_context=100,
)


class ToyModel:
    """Counts what it is asked for; `poison` is a token that makes the logits NaN."""

    def __init__(self, poison: int | None = None) -> None:
        self.config = SimpleNamespace(vocab_size=VOCABULARY_SIZE)
        self.poison = poison
        self.num_tokens_of_steps: list[int] = []
        self.num_rows_of_logits: list[int] = []
        self.block_tokens = 0

    def kv_bytes_per_block(self, block_tokens: int) -> int:
        return 16 * block_tokens

    def allocate_kv_cache(self, num_blocks: int, block_tokens: int) -> KVCache:
        self.block_tokens = block_tokens
        # One layer and head; the key of a slot is its token, the value its position.
        return KVCache(storage=torch.full((1, 2, 1, num_blocks, block_tokens, 1), -1))

    def hidden_states(self, batch: Batch, kv_cache: KVCache) -> torch.Tensor:
        """The logits themselves."""
        self.num_tokens_of_steps.append(len(batch.token_ids))
        assert len(set(batch.slots.tolist())) == len(batch.slots), "two rows write one slot"
        layer = kv_cache.layer(0)
        tokens, positions = layer.keys, layer.values  # each [1, blocks, block_tokens, 1]
        tokens.view(-1)[batch.slots] = batch.token_ids
        positions.view(-1)[batch.slots] = batch.positions
        contexts = [
            self._read(batch, sequence, tokens.view(-1), positions.view(-1))
            for sequence in range(len(batch.context_lengths))
        ]
        rows = []
        for row in batch.logit_rows.tolist():
            sequence = int(torch.searchsorted(batch.query_starts, row, right=True)) - 1
            rows.append(self.logits_after(contexts[sequence][: int(batch.positions[row]) + 1]))
        return torch.stack(rows) if rows else torch.empty(0, VOCABULARY_SIZE)

    def _read(
        self, batch: Batch, sequence: int, tokens: torch.Tensor, positions: torch.Tensor
    ) -> list[int]:
        """The context of a sequence, through its block table."""
        length = int(batch.context_lengths[sequence])
        expected = torch.arange(length)
        blocks = batch.block_tables[sequence, expected // self.block_tokens]
        slots = blocks * self.block_tokens + expected % self.block_tokens
        assert torch.equal(positions[slots], expected), "the cache is not what was written"
        last_row = int(batch.query_starts[sequence + 1]) - 1
        assert int(batch.positions[last_row]) == length - 1
        return list(tokens[slots].tolist())

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        self.num_rows_of_logits.append(len(hidden))
        return hidden

    def argmax(self, logits: torch.Tensor) -> torch.Tensor:
        return ReferenceKernels(logits.device, torch.float32).argmax(logits)

    def logits_after(self, context: Sequence[int]) -> torch.Tensor:
        if self.poison in context:
            return torch.full((VOCABULARY_SIZE,), torch.nan)
        return toy_logits(context)


def toy_logits(context: Sequence[int]) -> torch.Tensor:
    """[VOCABULARY_SIZE] float32, a function of the whole context."""
    generator = torch.Generator().manual_seed(zlib.crc32(repr(list(context)).encode()))
    return torch.randn(VOCABULARY_SIZE, generator=generator) * 2


class Clock:
    """Time that stands still until told otherwise."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def make_engine(
    config: EngineConfig = ROOMY, *, model: ToyModel | None = None, clock: Clock | None = None
) -> Engine:
    """An engine on the toy model."""
    return Engine(model=cast(Model, model or ToyModel()), config=config, clock=clock or Clock())


def submission(
    key: int, prompt: Sequence[int] = (1, 2, 3), *, arrived_at: float = 1000.0, **fields: Any
) -> Submission:
    """A submission, greedy unless told otherwise."""
    made = Submission(
        key=key,
        request_id=f"request-{key}",
        prompt_ids=tuple(prompt),
        sampling=GREEDY,
        arrived_at=arrived_at,
    )
    return dataclasses.replace(made, **fields)


class Answers:
    """What came back for each key, checked as it comes.

    Ids and log probabilities are under (key, output index), those of output 0 also under the key
    alone. `ends` has the end of each request: its error, or the finish of its last output.
    """

    def __init__(self) -> None:
        self.ids: dict[Any, list[int]] = {}
        self.logprobs: dict[Any, list[TokenLogprob]] = {}
        self.prompt_logprobs: dict[int, tuple[TokenLogprob, ...]] = {}
        self.started: set[int] = set()
        self.finishes: dict[tuple[int, int], Finish] = {}
        self.ends: dict[int, Finish | OctavoError] = {}
        self.last_items: dict[int, OutputItem] = {}

    def add(self, items: Sequence[OutputItem]) -> None:
        for item in items:
            assert item.key not in self.ends, f"{item.key} goes on after its end"
            self._add_start(item)
            self._add_tokens(item)
            self._add_end(item)
            self.last_items[item.key] = item

    def _add_start(self, item: OutputItem) -> None:
        assert not (item.started and item.key in self.started), f"{item.key} started twice"
        assert item.started or not item.prompt_logprobs
        if item.started:
            self.started.add(item.key)
            self.prompt_logprobs[item.key] = item.prompt_logprobs

    def _add_tokens(self, item: OutputItem) -> None:
        output = (item.key, item.output_index)
        if item.error is None:
            assert output not in self.finishes, f"{output} goes on after its finish"
        if item.token_ids:
            assert item.key in self.started, f"{item.key} has tokens before its start"
        assert len(item.logprobs) in (0, len(item.token_ids))
        if item.output_index == 0:
            self.ids[item.key] = self.ids.setdefault(output, [])
            self.logprobs[item.key] = self.logprobs.setdefault(output, [])
        self.ids.setdefault(output, []).extend(item.token_ids)
        self.logprobs.setdefault(output, []).extend(item.logprobs)

    def _add_end(self, item: OutputItem) -> None:
        assert item.finish is None or item.error is None
        if item.finish is not None:
            self.finishes[item.key, item.output_index] = item.finish
        is_last = item.timings is not None or item.error is not None
        end = item.finish or item.error
        if is_last:
            assert end is not None, f"{item.key} ends without saying how"
            self.ends[item.key] = end

    def end_of(self, key: int) -> Finish | str:
        """The finish, or the reason of the error."""
        end = self.ends[key]
        return end if isinstance(end, Finish) else end.reason

    def finish_of(self, key: int) -> Finish:
        """The finish of a request that ended without an error."""
        end = self.ends[key]
        assert isinstance(end, Finish), end
        return end

    def error_of(self, key: int) -> OctavoError:
        """The error of a request that failed."""
        end = self.ends[key]
        assert isinstance(end, OctavoError), end
        return end


def run_to_end(engine: Engine, answers: Answers | None = None, *, max_steps: int = 5000) -> Answers:
    """Step until there is no work."""
    answers = answers or Answers()
    for _ in range(max_steps):
        if not engine.has_work:
            return answers
        answers.add(engine.step().items)
    raise AssertionError(f"still at work after {max_steps} steps")
