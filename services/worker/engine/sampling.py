"""From logits to token ids: the specification of how a token is drawn, in plain torch.

    1 a NaN or an infinity in the model's own logits: nothing is drawn (NotDrawn.NOT_FINITE)
    2 the request's rules change the logits (logit_rules.py); where they forbid every token, nothing
      is drawn (NotDrawn.NOTHING_ALLOWED)
    3 temperature 0     the id of the largest logit; among equals the lowest id
      otherwise         p = softmax(logits / temperature)
                        top_k keeps the k likeliest
                        top_p keeps, of what is left, the likeliest until their share reaches top_p;
                        the one that reaches it is kept, and the likeliest always is
                        min_p keeps what is at least min_p times as likely as the likeliest
                        the token is the first, in vocabulary order, at which the cumulative sum of
                        what was kept exceeds u times the whole, u uniform in [0, 1)

Among equal probabilities the lowest ids are kept. A row's result depends on its logits and its
draw alone, not on the rows beside it: every operation works on rows, elementwise, or in integers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch

from services.worker.engine.logit_rules import apply_rules, has_rules
from services.worker.engine.philox import uniform
from services.worker.engine.step_plan import Draw
from services.worker.engine.step_result import NotDrawn

# A nucleus is rarely deeper, and ranking a whole vocabulary costs thirty times as much.
_FIRST_DEPTH = 256
# Bounds the memory that float64 copies of the logits take, and is faster than all rows at once.
_TILE_ROWS = 16


def sample(
    logits: torch.Tensor, draws: Sequence[Draw], argmax: Sequence[int]
) -> list[int | NotDrawn]:
    """What each draw gives on its row of logits [L, V] float32.

    argmax: of each row the lowest id of the largest logit, or -1 where one is not finite.
    """
    drawn: list[int | NotDrawn] = list(argmax)
    for tile in _tiles([row for row, draw in enumerate(draws) if _is_more_than_greedy(draw)]):
        tile_draws = [draws[row] for row in tile]
        found = _sample_tile(logits[torch.tensor(tile, device=logits.device)], tile_draws)
        for row, token_id in zip(tile, found, strict=True):
            drawn[row] = token_id
    return [
        token_id if best >= 0 else NotDrawn.NOT_FINITE
        for token_id, best in zip(drawn, argmax, strict=True)
    ]


def _is_more_than_greedy(draw: Draw) -> bool:
    return draw.sampling.temperature > 0 or has_rules(draw)


def _tiles(rows: Sequence[int]) -> Iterator[Sequence[int]]:
    for first in range(0, len(rows), _TILE_ROWS):
        yield rows[first : first + _TILE_ROWS]


def _sample_tile(logits: torch.Tensor, draws: Sequence[Draw]) -> list[int | NotDrawn]:
    """As `sample`; rows that are not finite give an id without meaning, and disturb no other."""
    if not any(map(has_rules, draws)):
        return list(_sample_random(logits, draws).tolist())
    logits = logits.to(torch.float64)
    apply_rules(logits, draws)
    best, token_ids = logits.max(dim=-1)
    random_rows = [row for row, draw in enumerate(draws) if draw.sampling.temperature > 0]
    if random_rows:
        rows = torch.tensor(random_rows, device=logits.device)
        token_ids[rows] = _sample_random(logits[rows], [draws[row] for row in random_rows])
    return [
        NotDrawn.NOTHING_ALLOWED if logit == -math.inf else token_id
        for token_id, logit in zip(token_ids.tolist(), best.tolist(), strict=True)
    ]


def _sample_random(logits: torch.Tensor, draws: Sequence[Draw]) -> torch.Tensor:
    """The token ids [L] drawn from logits [L, V] whose temperature is above 0, after their rules.

    Rows without a finite largest logit give an id without meaning, and disturb no other row.
    """
    device = logits.device
    temperature = torch.tensor([draw.sampling.temperature for draw in draws], dtype=torch.float64)
    probs = probabilities(logits, temperature.to(device))
    limited_rows = [row for row, draw in enumerate(draws) if _is_limited(draw)]
    if limited_rows:
        rows = torch.tensor(limited_rows, device=device)
        limited = [draws[row].sampling for row in limited_rows]
        top_k = torch.tensor([sampling.top_k for sampling in limited], device=device)
        top_p = torch.tensor([sampling.top_p for sampling in limited], dtype=torch.float64)
        limited_probs = probs[rows]
        probs[rows] = cut(limited_probs, *find_cut(limited_probs, top_k, top_p.to(device)))
    if any(draw.sampling.min_p > 0 for draw in draws):
        min_p = torch.tensor([draw.sampling.min_p for draw in draws], dtype=torch.float64)
        probs = cut_unlikely(probs, min_p.to(device))
    return invert_cumulative(probs, uniform_of(draws, device))


def _is_limited(draw: Draw) -> bool:
    return draw.sampling.top_k > 0 or draw.sampling.top_p < 1


def probabilities(logits: torch.Tensor, temperature: torch.Tensor) -> torch.Tensor:
    """softmax(logits / temperature) as [L, V] float64; temperature [L] float64, above 0.

    The largest logit is taken off first: then a tiny temperature makes the others -inf, never NaN.
    """
    difference = logits.to(torch.float64) - logits.amax(dim=-1, keepdim=True)
    return torch.softmax(difference / temperature[:, None], dim=-1)


def find_cut(
    probs: torch.Tensor, top_k: torch.Tensor, top_p: torch.Tensor, *, depth: int = _FIRST_DEPTH
) -> tuple[torch.Tensor, torch.Tensor]:
    """How many of the likeliest tokens top_k and top_p leave, and the least probability of these.

    probs [L, V] float64; top_k [L] int64, 0 keeps all; top_p [L] float64, 1 keeps all. The results
    are [L] int64, at least 1, and [L] float64. Only the `depth` likeliest are looked at first;
    rows that this does not settle are ranked again, deeper.
    """
    num_tokens = probs.shape[-1]
    depth = min(depth, num_tokens)
    most = torch.where(top_k > 0, top_k.clamp(max=num_tokens), num_tokens)  # [L]
    ranked = probs.topk(depth, dim=-1).values  # [L, depth], likeliest first
    cumulative = ranked.cumsum(dim=-1)
    last = cumulative.gather(-1, (most - 1).clamp(max=depth - 1)[:, None])[:, 0]
    whole = torch.where(most == num_tokens, 1.0, last)  # what top_p is a share of
    share_before = torch.nn.functional.pad(cumulative[:, :-1], (1, 0))  # [L, depth]
    num_by_share = (share_before < (top_p * whole)[:, None]).sum(dim=-1).clamp(min=1)
    num_kept = torch.where(top_p < 1, torch.minimum(most, num_by_share), most)
    least = ranked.gather(-1, (num_kept - 1).clamp(max=depth - 1)[:, None])[:, 0]
    reached = (most == num_tokens) & (top_p < 1) & (cumulative[:, -1] >= top_p)
    unsettled = torch.nonzero(~reached & (most > depth))[:, 0]
    if unsettled.numel() > 0:
        num_kept[unsettled], least[unsettled] = find_cut(
            probs[unsettled], top_k[unsettled], top_p[unsettled], depth=16 * depth
        )
    return num_kept, least


def cut(probs: torch.Tensor, num_kept: torch.Tensor, least: torch.Tensor) -> torch.Tensor:
    """probs [L, V] with 0 for all but the num_kept [L] likeliest, the last of which has `least`."""
    above = probs > least[:, None]
    level = probs == least[:, None]
    room = num_kept[:, None] - above.sum(dim=-1, keepdim=True)
    kept = above | (level & (level.cumsum(dim=-1) <= room))
    return torch.where(kept, probs, 0.0)


def cut_unlikely(probs: torch.Tensor, min_p: torch.Tensor) -> torch.Tensor:
    """probs [L, V] with 0 for what is less likely than min_p [L] times the row's likeliest."""
    least = min_p[:, None] * probs.amax(dim=-1, keepdim=True)
    return torch.where(probs >= least, probs, 0.0)


def invert_cumulative(probs: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """The ids [L] at which the cumulative sums of probs [L, V] exceed uniforms [L] of the whole.

    A token of probability 0 is never drawn: the sum does not grow at it.
    """
    cumulative = probs.cumsum(dim=-1)
    if cumulative.device.type != "cpu":
        cumulative = rising(cumulative, probs)
    whole = cumulative[:, -1:]
    # A product that was rounded up to the whole would point past the last token.
    target = torch.minimum(uniforms[:, None] * whole, torch.nextafter(whole, whole.new_zeros(())))
    return torch.searchsorted(cumulative, target, right=True)[:, 0].clamp(max=probs.shape[-1] - 1)


def rising(cumulative: torch.Tensor, probs: torch.Tensor) -> torch.Tensor:
    """Cumulative sums that never fall, and stay where probs [L, V] is 0.

    A device adds in a tree, whose rounding keeps neither.
    """
    return torch.where(probs > 0, cumulative, 0.0).cummax(dim=-1).values


def uniform_of(draws: Sequence[Draw], device: torch.device) -> torch.Tensor:
    """The random number of each draw: [L] float64, keyed by seed, output index and position."""
    word = 0xFFFFFFFF
    key = [(draw.sampling.seed & word, (draw.sampling.seed >> 32) & word) for draw in draws]
    counter = [(draw.position, draw.output_index, 0, 0) for draw in draws]
    return uniform(torch.tensor(counter, device=device), torch.tensor(key, device=device))
