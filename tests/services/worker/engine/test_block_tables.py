"""Sequences get the blocks that they need, and a block of their own before they write into it."""

from __future__ import annotations

import dataclasses

from services.worker.engine.block_tables import BlockTables
from services.worker.engine.sequence import Request, Sequence, first_sequences
from tests.services.worker.engine.toy_model import ROOMY, submission

CONFIG = dataclasses.replace(ROOMY, num_blocks=6)  # of 4 tokens


def forked(tables: BlockTables, num_prompt_tokens: int, num_outputs: int) -> list[Sequence]:
    """The outputs of a prompt that was computed, each with its first token."""
    asked = submission(1, [1] * num_prompt_tokens, num_outputs=num_outputs)
    (first,) = first_sequences(Request(asked, arrival=0))
    assert tables.complete(first)
    first.num_computed = num_prompt_tokens
    sequences = [first, *first.fork()]
    for sequence in sequences[1:]:
        tables.share(sequence)
    for sequence in sequences:
        sequence.token_ids.append(9)
    return sequences


def check(tables: BlockTables, sequences: list[Sequence]) -> None:
    tables.allocator.check(sequence.block_table for sequence in sequences)


def test_a_block_that_is_not_full_is_copied_for_all_but_the_last_who_write() -> None:
    tables = BlockTables(CONFIG)
    sequences = forked(tables, 6, 3)
    assert tables.allocator.num_used == 2
    full, partial = sequences[0].block_table
    assert all(tables.complete(sequence) for sequence in sequences)
    check(tables, sequences)
    assert tables.allocator.num_used == 4
    assert [sequence.block_table[0] for sequence in sequences] == [full] * 3
    assert sequences[2].block_table[1] == partial
    copies = tables.take_copies()
    assert [(copy.source, copy.destination) for copy in copies] == [
        (partial, sequences[0].block_table[1]),
        (partial, sequences[1].block_table[1]),
    ]
    assert tables.take_copies() == ()
    assert all(tables.num_missing(sequence) == 0 for sequence in sequences)


def test_full_blocks_are_shared_and_never_copied() -> None:
    tables = BlockTables(CONFIG)
    sequences = forked(tables, 8, 3)
    assert [tables.num_missing(sequence) for sequence in sequences] == [1, 1, 1]
    assert all(tables.complete(sequence) for sequence in sequences)
    assert tables.allocator.num_used == 5
    assert tables.take_copies() == ()


def test_nothing_is_given_where_too_few_blocks_are_free() -> None:
    tables = BlockTables(dataclasses.replace(CONFIG, num_blocks=3))
    first, second, third = sequences = forked(tables, 6, 3)
    assert tables.complete(first)
    assert not tables.complete(second)
    check(tables, sequences)
    tables.release(third)
    assert tables.complete(second)  # nobody else writes into that block now
    assert len(tables.take_copies()) == 1
    check(tables, [first, second])


def test_blocks_are_free_without_their_last_holders_only() -> None:
    tables = BlockTables(CONFIG)
    sequences = forked(tables, 8, 3)
    assert [tables.num_free_without(sequences[:count]) for count in range(4)] == [4, 4, 4, 6]
    tables.release(sequences[0])
    assert tables.num_free_without(sequences[1:]) == 6
