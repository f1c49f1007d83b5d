"""What one step does: made by the scheduler, done by the runner of every rank.

A plan says everything. A rank that runs it needs no state but the weights and the KV cache.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass

from services.worker.engine.request import Sampling


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """The tokens before the one drawn: prompt, then output."""

    token_ids: array[int]
    num_prompt_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Draw:
    """How one token is drawn.

    `position` is the place of the token drawn in prompt and output, counted from 0. It keys the
    random number together with the seed and the output index: the same token is drawn whatever
    else is in the step, and however often the request was begun anew.
    """

    sampling: Sampling
    output_index: int = 0
    position: int
    history: History | None = None  # given where the sampling's rules look back
    forbidden_ids: array[int] | None = None  # not drawn now, whatever the rules say
    num_top_logprobs: int | None = None  # None: no log probability is wanted


@dataclass(frozen=True, kw_only=True, slots=True)
class Scoring:
    """Known ids whose log probabilities are wanted, each from the row of the token before it."""

    first_row: int  # in the chunk; the rows that follow score the ids that follow
    token_ids: tuple[int, ...]
    num_top_logprobs: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """Tokens of one sequence that one step runs: a part of what is known, or the token drawn last.

    positions   0 ........ start ............. start + len(token_ids)
                in the KV cache | computed now | drawn, if there are draws
    """

    token_ids: tuple[int, ...]
    start: int
    block_table: tuple[int, ...]
    draws: tuple[Draw, ...] = ()  # all from the last row
    scoring: Scoring | None = None

    @property
    def end(self) -> int:
        """Tokens that the sequence has in the KV cache after the step."""
        return self.start + len(self.token_ids)


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockCopy:
    """The keys and values of one block go to another."""

    source: int
    destination: int


@dataclass(frozen=True, kw_only=True, slots=True)
class StepPlan:
    """The chunks of one step, in the order of the batch's rows.

    The copies are made before anything else; all sources are read before a destination is written.
    """

    chunks: tuple[Chunk, ...] = ()
    copies: tuple[BlockCopy, ...] = ()

    @property
    def num_tokens(self) -> int:
        """Rows that the model computes."""
        return sum(len(chunk.token_ids) for chunk in self.chunks)
