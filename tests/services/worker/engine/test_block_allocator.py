"""Blocks are handed out once, come back once, and the check sees what is wrong."""

from __future__ import annotations

import pytest

from services.worker.engine.block_allocator import BlockAllocator


def test_blocks_are_handed_out_once_and_come_back() -> None:
    allocator = BlockAllocator(5)
    first, second = allocator.allocate(2), allocator.allocate(3)
    assert sorted(first + second) == [0, 1, 2, 3, 4]
    assert (allocator.num_free, allocator.num_used) == (0, 5)
    allocator.release(first)
    assert (allocator.num_free, allocator.num_used) == (2, 3)
    assert sorted(allocator.allocate(2)) == sorted(first)


def test_a_shared_block_is_free_when_its_last_holder_lets_go() -> None:
    allocator = BlockAllocator(2)
    blocks = allocator.allocate(1)
    allocator.share(blocks)
    allocator.check([blocks, blocks])
    allocator.release(blocks)
    assert allocator.num_used == 1
    allocator.release(blocks)
    assert allocator.num_used == 0
    allocator.check([])


def test_tables_free_the_blocks_that_nobody_else_holds() -> None:
    allocator = BlockAllocator(6)
    first = allocator.allocate(2)
    allocator.share(first[:1])
    second = [first[0], *allocator.allocate(1)]
    assert [allocator.is_shared(block) for block in (*first, second[1])] == [True, False, False]
    assert allocator.num_free_without([]) == 3
    assert allocator.num_free_without([first]) == 4
    assert allocator.num_free_without([second]) == 4
    assert allocator.num_free_without([first, second]) == 6


def test_more_than_is_free_is_our_own_mistake() -> None:
    with pytest.raises(AssertionError, match="3 blocks wanted, 2 free"):
        BlockAllocator(2).allocate(3)


def test_releasing_twice_is_our_own_mistake() -> None:
    allocator = BlockAllocator(2)
    blocks = allocator.allocate(1)
    allocator.release(blocks)
    with pytest.raises(AssertionError, match="released twice"):
        allocator.release(blocks)
    with pytest.raises(AssertionError, match="free and cannot be shared"):
        allocator.share(blocks)


def test_the_check_sees_a_leak_and_a_table_that_holds_nothing() -> None:
    allocator = BlockAllocator(3)
    leaked = allocator.allocate(1)
    with pytest.raises(AssertionError, match="counts 1 holders and has 0"):
        allocator.check([])
    allocator.check([leaked])
    with pytest.raises(AssertionError, match="counts 0 holders and has 1"):
        allocator.check([leaked, [2]])
