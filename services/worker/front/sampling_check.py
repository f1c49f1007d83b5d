"""The limits of a submit's sampling parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence

from octavo.errors import invalid_field
from octavo.v1 import worker_pb2

MAX_BIASED_IDS = 1_024
MAX_BIAS = 100
MAX_BAD_WORDS = 64
MAX_SEQUENCE_IDS = 32
# Of a text of 256 bytes, with a space before it, that is spelled byte by byte.
MAX_BAD_WORD_IDS = 257
MAX_ALLOWED_IDS = 16_384

# What is absent reads as 0, which each of these ranges holds.
_RANGES = {
    "min_p": (0, 1),
    "frequency_penalty": (-2, 2),
    "presence_penalty": (-2, 2),
    "no_repeat_ngram": (0, 64),
}


def check_sampling(
    sampling: worker_pb2.ResolvedSampling, *, vocabulary_size: int, max_outputs: int
) -> None:
    """Raises InvalidArgumentError that names the first parameter outside its limits."""
    temperature, top_p = sampling.temperature, sampling.top_p
    penalty = sampling.repetition_penalty
    if not (math.isfinite(temperature) and temperature >= 0):
        raise invalid_field("sampling.temperature", temperature, "finite and at least 0")
    if sampling.HasField("top_p") and not 0 < top_p <= 1:
        raise invalid_field("sampling.top_p", top_p, "above 0 and at most 1")
    if sampling.HasField("repetition_penalty") and not 0 < penalty <= 10:
        raise invalid_field("sampling.repetition_penalty", penalty, "above 0 and at most 10")
    for name, (least, most) in _RANGES.items():
        value = getattr(sampling, name)
        if not least <= value <= most:
            raise invalid_field(f"sampling.{name}", value, f"from {least} to {most}")
    if sampling.HasField("n") and not 1 <= sampling.n <= max_outputs:
        raise invalid_field("sampling.n", sampling.n, f"from 1 to {max_outputs}")
    _check_logit_bias(sampling, vocabulary_size)
    allowed = sampling.allowed_token_ids
    check_count("sampling.allowed_token_ids", allowed, MAX_ALLOWED_IDS, "ids")
    check_ids("sampling.allowed_token_ids", allowed, vocabulary_size)
    check_sequences(
        "sampling.bad_words",
        sampling.bad_words,
        MAX_BAD_WORDS,
        most_ids=MAX_BAD_WORD_IDS,
        vocabulary_size=vocabulary_size,
    )


def check_ids(path: str, ids: Sequence[int], vocabulary_size: int) -> None:
    """Refuses ids that the model does not have."""
    largest = max(ids, default=0)
    if largest >= vocabulary_size:
        raise invalid_field(path, largest, f"below the vocabulary's size, {vocabulary_size}")


def check_count(path: str, items: Sequence[object], most: int, noun: str) -> None:
    """Refuses more than `most` items."""
    if len(items) > most:
        raise invalid_field(path, len(items), f"at most {most} {noun}")


def check_sequences(
    path: str,
    sequences: Sequence[worker_pb2.TokenSequence],
    most: int,
    *,
    most_ids: int = MAX_SEQUENCE_IDS,
    vocabulary_size: int,
) -> None:
    """Refuses more than `most` sequences, and those that are empty, too long or not of the model's
    ids.
    """
    check_count(path, sequences, most, "sequences")
    for sequence in sequences:
        if not 1 <= len(sequence.ids) <= most_ids:
            limit = f"1 to {most_ids} ids"
            raise invalid_field(f"{path}.ids", len(sequence.ids), limit)
        check_ids(path, sequence.ids, vocabulary_size)


def _check_logit_bias(sampling: worker_pb2.ResolvedSampling, vocabulary_size: int) -> None:
    path, bias = "sampling.logit_bias", sampling.logit_bias
    check_count(path, tuple(bias), MAX_BIASED_IDS, "ids")
    check_ids(path, tuple(bias), vocabulary_size)
    for value in bias.values():
        if not -MAX_BIAS <= value <= MAX_BIAS:
            raise invalid_field(path, value, f"from {-MAX_BIAS} to {MAX_BIAS}")
