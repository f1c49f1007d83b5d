"""Gives sequences the blocks that their tokens need, and takes them back.

The outputs of one prompt share the blocks in which they are the same. A block that is not full is
shared too, until its holders write into it: then each but the last to do so gets a copy of its own.
"""

from __future__ import annotations

from collections.abc import Iterable

from services.worker.engine.block_allocator import BlockAllocator
from services.worker.engine.engine_config import EngineConfig
from services.worker.engine.sequence import Sequence
from services.worker.engine.step_plan import BlockCopy


class BlockTables:
    """The block tables of all sequences that run; others hold no blocks."""

    def __init__(self, config: EngineConfig) -> None:
        self.allocator = BlockAllocator(config.num_blocks)
        self._config = config
        self._copies: list[BlockCopy] = []

    def num_missing(self, sequence: Sequence) -> int:
        """Blocks that it needs for all of its tokens, and to write without being seen by others."""
        num_blocks = self._config.num_blocks_for(len(sequence.token_ids))
        shared = self._shared_place(sequence) is not None
        return num_blocks - len(sequence.block_table) + shared

    def num_free_without(self, sequences: Iterable[Sequence]) -> int:
        """Free blocks, were these sequences to give theirs back."""
        return self.allocator.num_free_without(sequence.block_table for sequence in sequences)

    def complete(self, sequence: Sequence) -> bool:
        """Give it what is missing; False, and nothing is given, where too few blocks are free."""
        num_missing = self.num_missing(sequence)
        if num_missing > self.allocator.num_free:
            return False
        if num_missing > 0:
            self._give(sequence)
        return True

    def share(self, sequence: Sequence) -> None:
        """Make it one more holder of the blocks in its table, as it was copied from another's."""
        self.allocator.share(sequence.block_table)

    def release(self, sequence: Sequence) -> None:
        """Take all of its blocks."""
        self.allocator.release(sequence.block_table)
        sequence.block_table = []

    def take_copies(self) -> tuple[BlockCopy, ...]:
        """The copies to make before the next step writes.

        A sequence that got one may have lost its blocks since; then the copy does no harm: whoever
        has the block now writes it before it is read.
        """
        copies, self._copies = tuple(self._copies), []
        return copies

    def _shared_place(self, sequence: Sequence) -> int | None:
        """The place in its table of a block that it is about to write to and that others hold."""
        place = sequence.num_computed // self._config.block_tokens
        table = sequence.block_table
        return place if place < len(table) and self.allocator.is_shared(table[place]) else None

    def _give(self, sequence: Sequence) -> None:
        place = self._shared_place(sequence)
        if place is not None:
            source = sequence.block_table[place]
            (copy,) = self.allocator.allocate(1)
            self.allocator.release([source])
            sequence.block_table[place] = copy
            self._copies.append(BlockCopy(source=source, destination=copy))
        sequence.block_table += self.allocator.allocate(self.num_missing(sequence))
