"""What a submit may ask for: the one table that GetWorker reports and that every submit meets."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from google.protobuf.message import Message

from octavo.errors import invalid_field, unsupported_field
from octavo.v1 import worker_pb2

ACCEPTED_FIELDS = (
    "key",
    "request_id",
    "prompt_token_ids",
    "generated",
    "sampling.temperature",
    "sampling.top_p",
    "sampling.top_k",
    "sampling.seed",
    "sampling.n",
    "stop_token_ids",
    "max_tokens",
    "time_limit_ms",
    "deadline_ms",
    "priority",
    "cache_salt",
)
MAX_OUTPUTS = 1
MAX_TOP_LOGPROBS = 0

# Lists of records count as one field; the other messages are only folders of fields.
_FOLDERS = ("sampling", "trace_context", "constraint", "logprobs")


def check_submit(submit: worker_pb2.Submit, *, vocabulary_size: int) -> None:
    """Raises InvalidArgumentError that names the first field that is wrong or not supported."""
    for path in set_fields(submit):
        if path not in ACCEPTED_FIELDS:
            raise unsupported_field(path)
    if not submit.prompt_token_ids:
        raise invalid_field("prompt_token_ids", [], "at least one id")
    _check_ids("prompt_token_ids", submit.prompt_token_ids, vocabulary_size)
    _check_ids("stop_token_ids", submit.stop_token_ids, vocabulary_size)
    _check_generated(submit, vocabulary_size)
    _check_sampling(submit.sampling)
    if submit.HasField("max_tokens") and submit.max_tokens == 0:
        raise invalid_field("max_tokens", 0, "at least 1")


def set_fields(message: Message, prefix: str = "") -> Iterator[str]:
    """The paths of the fields that are set, such as `sampling.temperature`."""
    for field, value in message.ListFields():
        path = prefix + field.name
        if path in _FOLDERS:
            yield from set_fields(value, f"{path}.")
        else:
            yield path


def _check_ids(path: str, ids: Sequence[int], vocabulary_size: int) -> None:
    largest = max(ids, default=0)
    if largest >= vocabulary_size:
        raise invalid_field(path, largest, f"below the vocabulary's size, {vocabulary_size}")


def _check_generated(submit: worker_pb2.Submit, vocabulary_size: int) -> None:
    if len(submit.generated) > MAX_OUTPUTS:
        raise invalid_field("generated", len(submit.generated), f"at most {MAX_OUTPUTS} output")
    for generated in submit.generated:
        if generated.output_index >= MAX_OUTPUTS:
            limit = f"below the number of outputs, {MAX_OUTPUTS}"
            raise invalid_field("generated.output_index", generated.output_index, limit)
        _check_ids("generated.token_ids", generated.token_ids, vocabulary_size)


def _check_sampling(sampling: worker_pb2.ResolvedSampling) -> None:
    temperature, top_p = sampling.temperature, sampling.top_p
    if not (math.isfinite(temperature) and temperature >= 0):
        raise invalid_field("sampling.temperature", temperature, "finite and at least 0")
    if sampling.HasField("top_p") and not 0 < top_p <= 1:
        raise invalid_field("sampling.top_p", top_p, "above 0 and at most 1")
    if sampling.HasField("n") and sampling.n != MAX_OUTPUTS:
        raise invalid_field("sampling.n", sampling.n, f"{MAX_OUTPUTS}")
