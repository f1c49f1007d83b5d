"""From logits to token ids: the specification of how a token is drawn, in plain torch.

    temperature 0     the id of the largest logit; among equals the lowest id
    otherwise         p = softmax(logits / temperature)
                      top_k keeps the k likeliest
                      top_p keeps, of what is left, the likeliest until their share reaches top_p;
                      the one that reaches it is kept, and the likeliest always is
                      the token is the first, in vocabulary order, at which the cumulative sum of
                      what was kept exceeds u times the whole, u uniform in [0, 1)

Among equal probabilities the lowest ids are kept. A row's result depends on its logits and its
draw alone, not on the rows beside it: every operation works on rows, elementwise, or in integers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from services.worker.engine.philox import uniform
from services.worker.engine.step_plan import Draw

# Rows are ranked this deep first; sorting a whole vocabulary costs ten times as much.
_NUM_CANDIDATES = 1024


def all_finite(logits: torch.Tensor) -> torch.Tensor:
    """[L] bool: whether a token can be drawn from a row of logits [L, V] at all."""
    return torch.isfinite(logits).all(dim=-1)


def sample(logits: torch.Tensor, draws: Sequence[Draw]) -> torch.Tensor:
    """The token ids [L] int64 drawn from logits [L, V] float32, one draw for each row.

    Rows that are not finite give an id without meaning, and disturb no other row.
    """
    token_ids = torch.argmax(logits, dim=-1)
    random_rows = [row for row, draw in enumerate(draws) if draw.sampling.temperature > 0]
    if random_rows:
        rows = torch.tensor(random_rows, device=logits.device)
        token_ids[rows] = _sample_random(logits[rows], [draws[row] for row in random_rows])
    return token_ids


def _sample_random(logits: torch.Tensor, draws: Sequence[Draw]) -> torch.Tensor:
    """As `sample`, for rows whose temperature is above 0."""
    device = logits.device
    temperature = torch.tensor([draw.sampling.temperature for draw in draws], dtype=torch.float64)
    probs = probabilities(logits, temperature.to(device))
    limited_rows = [row for row, draw in enumerate(draws) if _is_limited(draw)]
    if limited_rows:
        rows = torch.tensor(limited_rows, device=device)
        limited = [draws[row].sampling for row in limited_rows]
        top_k = torch.tensor([sampling.top_k for sampling in limited], device=device)
        top_p = torch.tensor([sampling.top_p for sampling in limited], dtype=torch.float64)
        num_kept = count_kept(probs[rows], top_k, top_p.to(device))
        probs[rows] = keep_likeliest(probs[rows], num_kept)
    return invert_cumulative(probs, uniform_of(draws, device))


def _is_limited(draw: Draw) -> bool:
    return draw.sampling.top_k > 0 or draw.sampling.top_p < 1


def probabilities(logits: torch.Tensor, temperature: torch.Tensor) -> torch.Tensor:
    """softmax(logits / temperature) as [L, V] float64; temperature [L] float64, above 0.

    The largest logit is taken off first: then a tiny temperature makes the others -inf, never NaN.
    """
    difference = logits.to(torch.float64) - logits.amax(dim=-1, keepdim=True)
    return torch.softmax(difference / temperature[:, None], dim=-1)


def count_kept(
    probs: torch.Tensor,
    top_k: torch.Tensor,
    top_p: torch.Tensor,
    *,
    num_candidates: int = _NUM_CANDIDATES,
) -> torch.Tensor:
    """How many of the likeliest tokens top_k and top_p leave: [L] int64, at least 1.

    probs [L, V] float64; top_k [L] int64, 0 keeps all; top_p [L] float64, 1 keeps all.
    """
    num_tokens = probs.shape[-1]
    num_candidates = min(num_candidates, num_tokens)
    most = torch.where(top_k > 0, top_k.clamp(max=num_tokens), num_tokens)  # [L]
    ranked = probs.topk(num_candidates, dim=-1).values  # [L, C], likeliest first
    cumulative = ranked.cumsum(dim=-1)
    last = (most - 1).clamp(max=num_candidates - 1)
    whole = torch.where(most == num_tokens, 1.0, cumulative.gather(-1, last[:, None])[:, 0])
    share_before = torch.nn.functional.pad(cumulative[:, :-1], (1, 0))  # [L, C]
    num_by_share = (share_before < (top_p * whole)[:, None]).sum(dim=-1).clamp(min=1)
    num_kept = torch.where(top_p < 1, torch.minimum(most, num_by_share), most)
    if num_candidates < num_tokens:
        ends_here = (top_p >= 1) | (most <= num_candidates)
        ends_here |= (most == num_tokens) & (cumulative[:, -1] >= top_p)
        deeper = torch.nonzero(~ends_here)[:, 0]
        if deeper.numel() > 0:
            num_kept[deeper] = count_kept(
                probs[deeper], top_k[deeper], top_p[deeper], num_candidates=num_tokens
            )
    return num_kept


def keep_likeliest(probs: torch.Tensor, num_kept: torch.Tensor) -> torch.Tensor:
    """probs [L, V] with all but the num_kept [L] likeliest of each row set to 0."""
    deepest = int(num_kept.max())
    least = probs.topk(deepest, dim=-1).values.gather(-1, num_kept[:, None] - 1)  # [L, 1]
    above = probs > least
    level = probs == least
    room = num_kept[:, None] - above.sum(dim=-1, keepdim=True)
    kept = above | (level & (level.cumsum(dim=-1) <= room))
    return torch.where(kept, probs, 0.0)


def invert_cumulative(probs: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """The ids [L] at which the cumulative sums of probs [L, V] exceed uniforms [L] of the whole.

    A token of probability 0 is never drawn: the sum does not grow at it.
    """
    cumulative = probs.cumsum(dim=-1)
    whole = cumulative[:, -1:]
    # A product that was rounded up to the whole would point past the last token.
    target = torch.minimum(uniforms[:, None] * whole, torch.nextafter(whole, whole.new_zeros(())))
    return torch.searchsorted(cumulative, target, right=True)[:, 0].clamp(max=probs.shape[-1] - 1)


def uniform_of(draws: Sequence[Draw], device: torch.device) -> torch.Tensor:
    """The random number of each draw: [L] float64, keyed by seed, output index and position."""
    word = 0xFFFFFFFF
    key = [(draw.sampling.seed & word, (draw.sampling.seed >> 32) & word) for draw in draws]
    counter = [(draw.position, draw.output_index, 0, 0) for draw in draws]
    return uniform(torch.tensor(counter, device=device), torch.tensor(key, device=device))
