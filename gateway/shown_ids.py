"""Which of the ids that a worker made are part of an output.

The id or the sequence that stopped an output is none of it, unless the client wants it. A sequence
comes one id at a time, so ids that may become one wait here until that is settled.
"""

from __future__ import annotations

from collections.abc import Sequence

from octavo.client.services.worker_types import Finish


class ShownIds:
    """The ids of one output."""

    def __init__(self, stop_sequences: Sequence[Sequence[int]], *, include_stop: bool) -> None:
        self._include_stop = include_stop
        self._sequences = [] if include_stop else stop_sequences
        self._waiting: list[int] = []

    def take(self, token_ids: Sequence[int], finish: Finish | None) -> Sequence[int]:
        """The ids that are settled with these; with `finish`, all but those that stopped it."""
        ids = [*self._waiting, *token_ids]
        num_kept = len(ids) - (self._num_waiting(ids) if finish is None else self._num_stop(finish))
        self._waiting = ids[num_kept:]
        return ids[:num_kept]

    @property
    def num_waiting(self) -> int:
        """Counts the ids that were not given out; at the end, those that stopped the output."""
        return len(self._waiting)

    def _num_stop(self, finish: Finish) -> int:
        if self._include_stop:
            return 0
        if finish.stop_sequence_index is not None:
            return len(self._sequences[finish.stop_sequence_index])
        return 0 if finish.stop_token_id is None else 1

    def _num_waiting(self, ids: Sequence[int]) -> int:
        """How many of the last ids a stop sequence may begin with."""
        return max((_overlap(ids, sequence) for sequence in self._sequences), default=0)


def _overlap(ids: Sequence[int], sequence: Sequence[int]) -> int:
    """The length of the longest start of `sequence`, not all of it, that `ids` end with. Sequences
    are short, so each length is tried.
    """
    longest = min(len(ids), len(sequence) - 1)
    return next((n for n in range(longest, 0, -1) if list(ids[-n:]) == list(sequence[:n])), 0)
