"""What a submit may ask for: the one table that GetWorker reports and that every submit meets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from google.protobuf.message import Message

from octavo.errors import invalid_field, unsupported_field
from octavo.v1 import worker_pb2
from services.worker.front.sampling_check import check_ids, check_sampling, check_sequences

ACCEPTED_FIELDS = (
    "key",
    "request_id",
    "prompt_token_ids",
    "generated",
    "sampling.temperature",
    "sampling.top_p",
    "sampling.top_k",
    "sampling.min_p",
    "sampling.frequency_penalty",
    "sampling.presence_penalty",
    "sampling.repetition_penalty",
    "sampling.no_repeat_ngram",
    "sampling.logit_bias",
    "sampling.bad_words",
    "sampling.allowed_token_ids",
    "sampling.seed",
    "sampling.n",
    "stop_token_ids",
    "stop_sequences",
    "forced_token_ids",
    "logprobs.generated",
    "logprobs.top",
    "logprobs.prompt",
    "max_tokens",
    "min_tokens",
    "time_limit_ms",
    "deadline_ms",
    "priority",
    "cache_salt",
)
MAX_OUTPUTS = 32
MAX_TOP_LOGPROBS = 20
MAX_STOP_SEQUENCES = 16
# Of one request's known tokens: 4 MiB on the wire, most of it in one message.
MAX_SCORED_VALUES = 512 * 1024

# Lists of records count as one field; the other messages are only folders of fields.
_FOLDERS = ("sampling", "trace_context", "constraint", "logprobs")


def check_submit(
    submit: worker_pb2.Submit, *, vocabulary_size: int, max_outputs: int = MAX_OUTPUTS
) -> None:
    """Raises InvalidArgumentError that names the first field that is wrong or not supported."""
    for path in set_fields(submit):
        if path not in ACCEPTED_FIELDS:
            raise unsupported_field(path)
    if not submit.prompt_token_ids:
        raise invalid_field("prompt_token_ids", [], "at least one id")
    check_ids("prompt_token_ids", submit.prompt_token_ids, vocabulary_size)
    check_ids("stop_token_ids", submit.stop_token_ids, vocabulary_size)
    check_sequences(
        "stop_sequences",
        submit.stop_sequences,
        MAX_STOP_SEQUENCES,
        vocabulary_size=vocabulary_size,
    )
    check_ids("forced_token_ids", submit.forced_token_ids, vocabulary_size)
    check_sampling(submit.sampling, vocabulary_size=vocabulary_size, max_outputs=max_outputs)
    _check_generated(submit, vocabulary_size)
    _check_logprobs(submit)
    _check_lengths(submit)


def set_fields(message: Message, prefix: str = "") -> Iterator[str]:
    """The paths of the fields that are set, such as `sampling.temperature`."""
    for field, value in message.ListFields():
        path = prefix + field.name
        if path in _FOLDERS:
            yield from set_fields(value, f"{path}.")
        else:
            yield path


def _check_generated(submit: worker_pb2.Submit, vocabulary_size: int) -> None:
    num_outputs, seen = submit.sampling.n or 1, set[int]()
    for generated in submit.generated:
        index = generated.output_index
        if index >= num_outputs or index in seen:
            limit = f"below the number of outputs, {num_outputs}, and given once"
            raise invalid_field("generated.output_index", index, limit)
        seen.add(index)
        check_ids("generated.token_ids", generated.token_ids, vocabulary_size)
        _check_begins_with_forced(generated.token_ids, submit.forced_token_ids)


def _check_begins_with_forced(generated: Sequence[int], forced: Sequence[int]) -> None:
    num_common = min(len(generated), len(forced))
    if list(generated[:num_common]) != list(forced[:num_common]):
        raise invalid_field(
            "generated.token_ids", list(generated[:num_common]), "the forced ids, as far as they go"
        )


def _check_logprobs(submit: worker_pb2.Submit) -> None:
    options = submit.logprobs
    if options.top > MAX_TOP_LOGPROBS:
        raise invalid_field("logprobs.top", options.top, f"at most {MAX_TOP_LOGPROBS}")
    if options.prompt and any(generated.token_ids for generated in submit.generated):
        limit = "false where ids were generated before: the prompt was scored then"
        raise invalid_field("logprobs.prompt", True, limit)
    num_scored = len(submit.prompt_token_ids) if options.prompt else 0
    if options.generated:
        num_scored += len(submit.forced_token_ids) * (submit.sampling.n or 1)
    if num_scored * (1 + options.top) > MAX_SCORED_VALUES:
        limit = f"such that (1 + top) x {num_scored} known tokens is at most {MAX_SCORED_VALUES}"
        raise invalid_field("logprobs.top", options.top, limit)


def _check_lengths(submit: worker_pb2.Submit) -> None:
    if not submit.HasField("max_tokens"):
        return
    if submit.min_tokens > submit.max_tokens:
        limit = f"at most max_tokens, {submit.max_tokens}"
        raise invalid_field("min_tokens", submit.min_tokens, limit)
