"""Ids that may become a stop sequence wait; those that did are not part of the output."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.shown_ids import ShownIds
from octavo.client.services.worker_types import Finish, FinishReason

LENGTH = Finish(reason=FinishReason.LENGTH)
quick = settings(derandomize=True, deadline=None, max_examples=200, database=None)
IDS = st.lists(st.integers(1, 3), max_size=12)
SEQUENCES = st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=4), max_size=3)


def first_match(ids: Sequence[int], sequences: Sequence[Sequence[int]]) -> tuple[int, int] | None:
    """The end of the first match, and the sequence that matched there."""
    for end in range(1, len(ids) + 1):
        for index, sequence in enumerate(sequences):
            if list(ids[:end][-len(sequence) :]) == list(sequence):
                return end, index
    return None


@quick
@given(ids=IDS, sequences=SEQUENCES, include=st.booleans())
def test_ids_one_by_one(ids: list[int], sequences: list[list[int]], include: bool) -> None:
    shown = ShownIds(sequences, include_stop=include)
    match = first_match(ids, sequences)
    given_out: list[int] = []
    for place, id_ in enumerate(ids, start=1):
        if match is not None and place == match[0]:
            finish = Finish(reason=FinishReason.STOP, stop_sequence_index=match[1])
            given_out += shown.take([id_], finish)
            num_hidden = 0 if include else len(sequences[match[1]])
            assert given_out == ids[: place - num_hidden]
            assert shown.num_waiting == num_hidden
            return
        given_out += shown.take([id_], None)
        waiting = ids[len(given_out) : place]
        assert not waiting or any(sequence[: len(waiting)] == waiting for sequence in sequences)
    assert [*given_out, *shown.take([], LENGTH)] == ids
    assert shown.num_waiting == 0


@pytest.mark.parametrize("include", [True, False])
def test_a_stop_id_is_the_last_of_its_item(include: bool) -> None:
    shown = ShownIds([[5, 6]], include_stop=include)
    finish = Finish(reason=FinishReason.STOP, stop_token_id=9)
    assert [*shown.take([4, 5], None), *shown.take([9], finish)] == [4, 5, *([9] * include)]


def test_a_sequence_that_was_not_obeyed_is_given_out() -> None:
    shown = ShownIds([[5, 6]], include_stop=False)
    assert list(shown.take([5, 6, 5], None)) == [5, 6]
    assert list(shown.take([7], None)) == [5, 7]
