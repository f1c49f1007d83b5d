"""Who owns which block of the KV cache. Knows numbers of blocks, never what is in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence


class BlockAllocator:
    """Hands out `num_blocks` blocks of one size, and counts who holds each.

    A block is free or held by one or more block tables:

        allocate: free -> 1 holder      share: n -> n + 1      release: n -> n - 1, free at 0

    Free blocks are a stack: the block released last is the likeliest to be in a cache still.
    """

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self._free = list(range(num_blocks - 1, -1, -1))
        self._num_holders = [0] * num_blocks

    @property
    def num_free(self) -> int:
        """Blocks that nobody holds."""
        return len(self._free)

    @property
    def num_used(self) -> int:
        """Blocks that somebody holds."""
        return self.num_blocks - len(self._free)

    def is_shared(self, block: int) -> bool:
        """Whether it has more than one holder."""
        return self._num_holders[block] > 1

    def num_free_without(self, block_tables: Iterable[Sequence[int]]) -> int:
        """Blocks that nobody would hold were these tables released."""
        holders = Counter(block for table in block_tables for block in table)
        num_freed = sum(count == self._num_holders[block] for block, count in holders.items())
        return self.num_free + num_freed

    def allocate(self, count: int) -> list[int]:
        """`count` blocks for one holder; the caller has looked at `num_free` first."""
        assert 0 <= count <= self.num_free, f"{count} blocks wanted, {self.num_free} free"
        blocks = [self._free.pop() for _ in range(count)]
        for block in blocks:
            self._num_holders[block] = 1
        return blocks

    def share(self, blocks: Iterable[int]) -> None:
        """One more holder for each of these blocks, which somebody holds already."""
        for block in blocks:
            assert self._num_holders[block] > 0, f"block {block} is free and cannot be shared"
            self._num_holders[block] += 1

    def release(self, blocks: Iterable[int]) -> None:
        """One holder less for each of these blocks."""
        for block in blocks:
            assert self._num_holders[block] > 0, f"block {block} is released twice"
            self._num_holders[block] -= 1
            if self._num_holders[block] == 0:
                self._free.append(block)

    def check(self, block_tables: Iterable[Sequence[int]]) -> None:
        """Assert that exactly these tables hold blocks, and that every other block is free."""
        holders = Counter(block for table in block_tables for block in table)
        free = Counter(self._free)
        for block, num_holders in enumerate(self._num_holders):
            assert num_holders == holders[block], (
                f"block {block} counts {num_holders} holders and has {holders[block]}"
            )
            assert free[block] == (num_holders == 0), (
                f"block {block} with {num_holders} holders is {free[block]} times in the free list"
            )
