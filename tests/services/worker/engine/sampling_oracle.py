"""How a token is drawn, in loops over plain floats: slow, obvious, and written apart from the code
that it judges.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch

from services.worker.engine.request import LogitRules, Sampling
from services.worker.engine.sampling import uniform_of
from services.worker.engine.step_plan import Draw
from services.worker.engine.step_result import TokenLogprob

_CPU = torch.device("cpu")


def ruled_logits(logits: Sequence[float], draw: Draw) -> list[float]:
    """One row after penalties, bias and what forbids."""
    rules = draw.sampling.rules or LogitRules()
    seen = list(draw.history.token_ids) if draw.history else []
    generated = seen[draw.history.num_prompt_tokens :] if draw.history else []
    allowed = list(rules.allowed_ids) or range(len(logits))
    result = []
    for id, raw in enumerate(logits):
        logit = raw
        if id in seen:
            penalty = rules.repetition_penalty
            logit = logit / penalty if logit > 0 else logit * penalty
        count = generated.count(id)
        logit -= rules.frequency_penalty * count
        if count:
            logit -= rules.presence_penalty
        for biased, bias in zip(rules.biased_ids, rules.biases, strict=True):
            logit += bias if biased == id else 0.0
        forbidden = id not in allowed or id in (draw.forbidden_ids or ())
        forbidden |= any(_completes(seen, id, list(word)) for word in rules.bad_words)
        forbidden |= _repeats(seen, id, rules.no_repeat_ngram)
        result.append(-math.inf if forbidden else logit)
    return result


def _completes(seen: list[int], id: int, word: list[int]) -> bool:
    """Whether the word is there once the id is."""
    return [*seen, id][-len(word) :] == word


def _repeats(seen: list[int], id: int, length: int) -> bool:
    """Whether the last `length` ids, with this one, are a run that is there already."""
    runs = [tuple(seen[i : i + length]) for i in range(len(seen) - length + 1)]
    return length > 0 and tuple([*seen, id][-length:]) in runs


def kept_probs(logits: Sequence[float], sampling: Sampling) -> list[float]:
    """Probabilities of one row after temperature, top_k, top_p and min_p."""
    largest = max(logits)
    weights = [math.exp((logit - largest) / sampling.temperature) for logit in logits]
    ranked = sorted(range(len(logits)), key=lambda id: (-weights[id], id))
    ranked = ranked[: sampling.top_k or None]
    whole = math.fsum(weights[id] for id in ranked)
    kept: list[int] = []
    for id in ranked:
        share_before = math.fsum(weights[other] for other in kept) / whole
        if kept and sampling.top_p < 1 and share_before >= sampling.top_p:
            break
        kept.append(id)
    kept = [id for id in kept if weights[id] >= sampling.min_p * weights[ranked[0]]]
    whole = math.fsum(weights[id] for id in kept)
    return [weights[id] / whole if id in kept else 0.0 for id in range(len(logits))]


def token(logits: Sequence[float], draw: Draw) -> int | None:
    """The id drawn from one row of finite logits; None where nothing is allowed."""
    row = ruled_logits(logits, draw)
    if max(row) == -math.inf:
        return None
    if draw.sampling.temperature == 0:
        return row.index(max(row))
    number = uniform_of([draw], _CPU).item()
    cumulative = itertools.accumulate(kept_probs(row, draw.sampling))
    return next(id for id, total in enumerate(cumulative) if total > number)


def logprob(logits: Sequence[float], id: int, top: int) -> TokenLogprob:
    """The log probability of one id and the `top` likeliest, from one row of the model's logits."""
    largest = max(logits)
    whole = math.log(math.fsum(math.exp(logit - largest) for logit in logits))
    logprobs = [logit - largest - whole for logit in logits]
    ranked = sorted(range(len(logits)), key=lambda id: (-logits[id], id))[:top]
    return TokenLogprob(
        logprob=logprobs[id],
        top_ids=tuple(ranked),
        top_logprobs=tuple(logprobs[id] for id in ranked),
    )
