"""Requests of all kinds, for tests of what they do to each other."""

from __future__ import annotations

from array import array

from services.worker.engine.request import LogitRules, Sampling, Submission, token_array
from tests.services.worker.engine.toy_model import submission

_LOW = range(2, 40)
RULES = (
    None,
    LogitRules(repetition_penalty=1.5, frequency_penalty=0.7, presence_penalty=0.2),
    LogitRules(no_repeat_ngram=1, biased_ids=token_array([7]), biases=array("d", [6.0])),
    LogitRules(bad_words=(token_array([3]), token_array([8, 9])), allowed_ids=token_array(_LOW)),
)


def mixed(count: int) -> list[Submission]:
    """Prompts of 1 to 23 ids, greedy and random, with rules and stops; some have four outputs."""
    return [
        submission(
            key,
            [(7 * key + step) % 50 for step in range(1 + 5 * key % 23)],
            max_tokens=3 + key % 9,
            min_tokens=key % 4,
            stop_ids=frozenset(range(key % 20)),
            num_outputs=4 if key % 5 == 3 else 1,
            sampling=Sampling(temperature=key % 3 / 2, top_p=0.9, seed=key, rules=RULES[key % 4]),
        )
        for key in range(count)
    ]
