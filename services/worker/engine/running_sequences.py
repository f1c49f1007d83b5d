"""The sequences that run: in order of precedence, bounded in outputs, each with its blocks."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator

from services.worker.engine.block_tables import BlockTables
from services.worker.engine.engine_config import EngineConfig
from services.worker.engine.sequence import Sequence


class RunningSequences:
    """Those whose tokens are computed in every step, as far as its budget goes."""

    def __init__(self, config: EngineConfig) -> None:
        self.blocks = BlockTables(config)
        self._max_outputs = config.max_running
        self._sequences: list[Sequence] = []

    def __len__(self) -> int:
        return len(self._sequences)

    def __iter__(self) -> Iterator[Sequence]:
        return iter(self._sequences)

    @property
    def last(self) -> Sequence:
        """The one of the lowest precedence."""
        return self._sequences[-1]

    @property
    def num_outputs(self) -> int:
        """Outputs that they stand for: the places that are taken."""
        return _num_outputs(self._sequences)

    def num_tokens_before(self, sequence: Sequence) -> int:
        """Tokens that a budget is dealt to before it: all decodes, and prompts that precede."""
        return sum(
            other.num_pending
            for other in self._sequences
            if other.num_pending == 1 or other.precedence < sequence.precedence
        )

    def find_room(self, sequence: Sequence) -> tuple[Sequence, ...] | None:
        """Those of lower priority that must make way for it to start; None where it cannot.

        None of them makes way unless that is enough.
        """
        num_staying = len(self._sequences)
        while not self._has_room(sequence, num_staying):
            if num_staying == 0:
                return None
            last = self._sequences[num_staying - 1]
            if last.priority >= sequence.priority:
                return None
            num_staying -= 1
        return tuple(reversed(self._sequences[num_staying:]))

    def _has_room(self, sequence: Sequence, num_staying: int) -> bool:
        """Whether places and blocks are left for it beside the first `num_staying`.

        One more block for each output stays free: else it would start only to be preempted by the
        others' next tokens, or by its own.
        """
        num_others = _num_outputs(self._sequences[:num_staying])
        if num_others + sequence.num_outputs > self._max_outputs:
            return False
        num_free = self.blocks.num_free_without(self._sequences[num_staying:])
        num_spare = num_others + sequence.num_outputs - 1 if num_others > 0 else 0
        return self.blocks.num_missing(sequence) + num_spare <= num_free

    def start(self, sequence: Sequence) -> None:
        """Give it its blocks and let it run; the caller has found room for it."""
        completed = self.blocks.complete(sequence)
        assert completed, f"request {sequence.request.key} starts without blocks"
        self._insert(sequence)

    def fork(self, sequence: Sequence) -> list[Sequence]:
        """One for each of its outputs, which differ from now on; all of them run."""
        others = sequence.fork()
        for other in others:
            self.blocks.share(other)
            self._insert(other)
        sequence.request.sequences += others
        return [sequence, *others]

    def stop(self, sequence: Sequence) -> None:
        """Take its blocks; it runs no more."""
        self._sequences.remove(sequence)
        sequence.is_running = False
        self.blocks.release(sequence)

    def check(self) -> None:
        """Assert that blocks and places are what these sequences make of them."""
        self.blocks.allocator.check(sequence.block_table for sequence in self._sequences)
        assert self.num_outputs <= self._max_outputs, f"{self.num_outputs} outputs run"

    def _insert(self, sequence: Sequence) -> None:
        sequence.is_running = True
        bisect.insort(self._sequences, sequence, key=lambda other: other.precedence)


def _num_outputs(sequences: Iterable[Sequence]) -> int:
    return sum(sequence.num_outputs for sequence in sequences)
