"""Log probabilities: of the model's own distribution, whatever is drawn from it and how.

    log p = log_softmax(logits), natural, at temperature 1, before any rule of the request

The likeliest tokens are ranked by their logits, among equals the lowest id first. A row's bits
depend on its logits alone: every operation works on rows, elementwise, or in integers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from services.worker.engine.step_result import TokenLogprob

# Bounds the memory that float64 and int64 copies of the logits take.
_TILE_ROWS = 16
_LOW_WORD = 0xFFFFFFFF


def token_logprobs(
    logits: torch.Tensor, token_ids: Sequence[int], nums_top: Sequence[int]
) -> list[TokenLogprob | None]:
    """The log probability of one token in each row of logits [L, V] float32, and of the likeliest,
    as many as nums_top says (or as there are). None for a row that is not finite.
    """
    result: list[TokenLogprob | None] = []
    for first in range(0, len(token_ids), _TILE_ROWS):
        tile = slice(first, first + _TILE_ROWS)
        result += _of_tile(logits[tile], token_ids[tile], nums_top[tile])
    return result


def _of_tile(
    logits: torch.Tensor, token_ids: Sequence[int], nums_top: Sequence[int]
) -> list[TokenLogprob | None]:
    finite = torch.isfinite(logits).all(dim=-1).tolist()
    # What is too small for the float32 of the wire becomes its smallest.
    logprobs = torch.log_softmax(logits.to(torch.float64), dim=-1).clamp_(
        min=torch.finfo(torch.float32).min
    )
    ids = torch.tensor(token_ids, device=logits.device)[:, None]
    own = logprobs.gather(-1, ids)[:, 0].tolist()
    top_ids = likeliest(logits, max(nums_top))
    top_logprobs = logprobs.gather(-1, top_ids).tolist()
    return [
        TokenLogprob(logprob=logprob, top_ids=tuple(row_ids[:num]), top_logprobs=tuple(row[:num]))
        if is_finite
        else None
        for is_finite, logprob, row_ids, row, num in zip(
            finite, own, top_ids.tolist(), top_logprobs, nums_top, strict=True
        )
    ]


def likeliest(logits: torch.Tensor, count: int) -> torch.Tensor:
    """The ids [L, count] of the largest of logits [L, V] float32, in order; fewer where V is less.

    Each logit becomes an integer that sorts as it does, with the id below it: no two are equal.
    """
    num_tokens = logits.shape[-1]
    bits = (logits + 0.0).view(torch.int32)  # -0 becomes 0
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).to(torch.int64)
    rank = torch.arange(num_tokens - 1, -1, -1, device=logits.device)  # [V], lowest id first
    keys = (ordered << 32) + rank
    return num_tokens - 1 - (keys.topk(min(count, num_tokens), dim=-1).values & _LOW_WORD)
