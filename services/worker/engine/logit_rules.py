"""What a request's own rules do to its logits before a token is drawn: the specification.

In this order, on one row of logits in float64. "Seen" tokens are those of prompt and output,
"generated" ones those of the output, what was forced or made elsewhere before included.

    repetition_penalty   each token seen: a logit above 0 is divided by it, any other multiplied
                         (Keskar et al. 2019, section 4.1, with the sign that it leaves open)
    frequency_penalty    taken off once for each time that a token was generated
    presence_penalty     taken off once if a token was generated at all
    logit_bias           added
    -inf, at last        a token that is not among allowed_ids, where any are
                         the last id of a bad word whose other ids precede it, in what was seen
                         a token that would make a run of no_repeat_ngram tokens seen already
                         forbidden_ids of the draw

What forbids comes last, so that no bias brings back what is forbidden. A row that is -inf
throughout leaves nothing to draw.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence

import torch

from services.worker.engine.request import LogitRules
from services.worker.engine.step_plan import Draw, History


def has_rules(draw: Draw) -> bool:
    """Whether anything is done to the logits of this draw."""
    return draw.sampling.rules is not None or bool(draw.forbidden_ids)


def apply_rules(logits: torch.Tensor, draws: Sequence[Draw]) -> None:
    """Does to logits [L, V] float64, in place, what the rules of each row's draw say."""
    for row, draw in zip(logits, draws, strict=True):
        rules = draw.sampling.rules
        if rules is not None:
            if draw.history is not None:
                _penalise(row, rules, draw.history)
            if rules.biased_ids:
                row[_ids(rules.biased_ids, row)] += _tensor(rules.biases, torch.float64, row)
            _forbid(row, rules, draw.history)
        if draw.forbidden_ids:
            row[_ids(draw.forbidden_ids, row)] = -math.inf


def _penalise(row: torch.Tensor, rules: LogitRules, history: History) -> None:
    """The three penalties, on a row [V]."""
    if rules.repetition_penalty != 1:
        seen = _ids(history.token_ids, row)
        before = row[seen]
        divided = (before / rules.repetition_penalty).clamp(max=torch.finfo(row.dtype).max)
        # A token seen twice is written twice, with the same value.
        row[seen] = torch.where(before > 0, divided, before * rules.repetition_penalty)
    if rules.frequency_penalty != 0 or rules.presence_penalty != 0:
        output = _ids(history.token_ids, row)[history.num_prompt_tokens :]
        counts = torch.bincount(output, minlength=row.shape[0]).to(row.dtype)
        row -= rules.frequency_penalty * counts + rules.presence_penalty * counts.clamp(max=1)


def _forbid(row: torch.Tensor, rules: LogitRules, history: History | None) -> None:
    """-inf for what must not be drawn, on a row [V]."""
    if rules.allowed_ids:
        allowed = _ids(rules.allowed_ids, row)
        kept = row[allowed]
        row.fill_(-math.inf)
        row[allowed] = kept
    if history is not None:
        for word in rules.bad_words:
            if _ends_with(history.token_ids, word[:-1]):
                row[word[-1]] = -math.inf
        if rules.no_repeat_ngram > 0:
            row[_repeating(_ids(history.token_ids, row), rules.no_repeat_ngram)] = -math.inf


def _ends_with(token_ids: array[int], end: array[int]) -> bool:
    return not end or token_ids[-len(end) :] == end


def _repeating(seen: torch.Tensor, length: int) -> torch.Tensor:
    """The ids that complete a run of `length` tokens that is in seen [T] already."""
    num_seen = seen.shape[0]
    if num_seen < length:
        return seen[:0]
    # The places at which a run in `seen` may end; each round keeps those whose token `back` places
    # before equals the one that the new run has there.
    ends = torch.arange(length - 1, num_seen, device=seen.device)
    for back in range(1, length):
        ends = ends[seen[ends - back] == seen[num_seen - back]]
    return seen[ends]


def _ids(token_ids: array[int], row: torch.Tensor) -> torch.Tensor:
    return _tensor(token_ids, torch.int64, row)


def _tensor(
    values: array[int] | array[float], dtype: torch.dtype, row: torch.Tensor
) -> torch.Tensor:
    """The same memory as a tensor, on the row's device."""
    return torch.frombuffer(values, dtype=dtype).to(row.device)
