"""What a submit may ask for."""

from __future__ import annotations

import math
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from octavo.errors import InvalidArgumentError
from octavo.v1 import worker_pb2
from octavo.v1.worker_pb2 import LogprobOptions
from services.worker.front.submit_check import ACCEPTED_FIELDS, check_submit, set_fields

VOCABULARY = 320


def submit(**fields: object) -> worker_pb2.Submit:
    values = {"key": 1, "prompt_token_ids": [0, 5], **_with_sequences(fields)}
    return worker_pb2.Submit(**values)  # type: ignore[arg-type]  # built from a table


def sampling(**fields: object) -> worker_pb2.Submit:
    values: dict[str, Any] = _with_sequences(fields)
    return submit(sampling=worker_pb2.ResolvedSampling(**values))


def generated(ids: list[int], **fields: object) -> worker_pb2.Submit:
    return submit(generated=[worker_pb2.GeneratedTokens(token_ids=ids)], **fields)


def _with_sequences(fields: dict[str, Any]) -> dict[str, object]:
    """Lists of ids become the message that the wire has for them."""
    made = dict(fields)
    for name in {"bad_words", "stop_sequences"} & made.keys():
        made[name] = [worker_pb2.TokenSequence(ids=ids) for ids in made[name]]
    return made


def full(message: Message) -> Message:
    """The message with every field set, to something harmless where that is possible."""
    for field in message.DESCRIPTOR.fields:
        oneof = field.containing_oneof
        if oneof is None or oneof.fields[0].name == field.name:
            _fill(message, field)
    return message


def _fill(message: Message, field: Any) -> None:
    value = getattr(message, field.name)
    is_message = field.type == FieldDescriptor.TYPE_MESSAGE
    if field.name == "logit_bias":
        value[1] = 1.0
    elif field.is_repeated and is_message:
        value.add(**{"ids": [1]} if "ids" in field.message_type.fields_by_name else {})
    elif field.is_repeated:
        value.append(1)
    elif is_message:
        full(value)
    else:
        setattr(message, field.name, "1" if field.type == FieldDescriptor.TYPE_STRING else 1)


def test_the_table_is_what_is_accepted() -> None:
    everything = full(worker_pb2.Submit())
    paths = set(set_fields(everything))
    assert set(ACCEPTED_FIELDS) < paths
    for path in sorted(paths):
        message = submit()
        _copy_path(everything, message, path)
        if path in ACCEPTED_FIELDS:
            check_submit(message, vocabulary_size=VOCABULARY)
        else:
            with pytest.raises(InvalidArgumentError) as caught:
                check_submit(message, vocabulary_size=VOCABULARY)
            assert caught.value.reason == "UNSUPPORTED_FIELD"
            assert caught.value.metadata == {"field": path}


def _copy_path(source: Message, target: Message, path: str) -> None:
    folder, _, name = path.rpartition(".")
    if folder:
        source, target = getattr(source, folder), getattr(target, folder)
    one = type(source)()
    one.CopyFrom(source)
    for field, _ in source.ListFields():
        if field.name != name:
            one.ClearField(field.name)
    target.ClearField(name)
    target.MergeFrom(one)


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (submit(prompt_token_ids=[]), "prompt_token_ids"),
        (submit(prompt_token_ids=[VOCABULARY]), "prompt_token_ids"),
        (submit(stop_token_ids=[2**32 - 1]), "stop_token_ids"),
        (submit(generated=[worker_pb2.GeneratedTokens(output_index=1)]), "generated.output_index"),
        (submit(generated=[worker_pb2.GeneratedTokens()] * 2), "generated.output_index"),
        (
            submit(generated=[worker_pb2.GeneratedTokens(token_ids=[VOCABULARY])]),
            "generated.token_ids",
        ),
        (sampling(temperature=-1.0), "sampling.temperature"),
        (sampling(temperature=math.nan), "sampling.temperature"),
        (sampling(temperature=math.inf), "sampling.temperature"),
        (sampling(top_p=0.0), "sampling.top_p"),
        (sampling(top_p=math.nan), "sampling.top_p"),
        (sampling(top_p=1.5), "sampling.top_p"),
        (sampling(n=33), "sampling.n"),
        (sampling(n=0), "sampling.n"),
        (submit(max_tokens=3, min_tokens=4), "min_tokens"),
        (submit(max_tokens=0, min_tokens=1), "min_tokens"),
        (submit(forced_token_ids=[VOCABULARY]), "forced_token_ids"),
        (generated([1, 2], forced_token_ids=[1, 3]), "generated.token_ids"),
        (generated([1, 2], logprobs=LogprobOptions(prompt=True)), "logprobs.prompt"),
        (submit(logprobs=LogprobOptions(top=21)), "logprobs.top"),
        (submit(stop_sequences=[[1]] * 17), "stop_sequences"),
        (submit(stop_sequences=[[1], []]), "stop_sequences.ids"),
        (submit(stop_sequences=[[1] * 33]), "stop_sequences.ids"),
        (submit(stop_sequences=[[VOCABULARY]]), "stop_sequences"),
        (sampling(min_p=-0.1), "sampling.min_p"),
        (sampling(min_p=1.1), "sampling.min_p"),
        (sampling(min_p=math.nan), "sampling.min_p"),
        (sampling(frequency_penalty=2.1), "sampling.frequency_penalty"),
        (sampling(frequency_penalty=-math.inf), "sampling.frequency_penalty"),
        (sampling(presence_penalty=-2.1), "sampling.presence_penalty"),
        (sampling(presence_penalty=math.nan), "sampling.presence_penalty"),
        (sampling(repetition_penalty=0.0), "sampling.repetition_penalty"),
        (sampling(repetition_penalty=10.1), "sampling.repetition_penalty"),
        (sampling(repetition_penalty=math.nan), "sampling.repetition_penalty"),
        (sampling(no_repeat_ngram=65), "sampling.no_repeat_ngram"),
        (sampling(logit_bias={VOCABULARY: 1.0}), "sampling.logit_bias"),
        (sampling(logit_bias={1: 100.1}), "sampling.logit_bias"),
        (sampling(logit_bias={1: math.nan}), "sampling.logit_bias"),
        (sampling(logit_bias={1: -math.inf}), "sampling.logit_bias"),
        (sampling(bad_words=[[1]] * 65), "sampling.bad_words"),
        (sampling(bad_words=[[]]), "sampling.bad_words.ids"),
        (sampling(bad_words=[[1] * 258]), "sampling.bad_words.ids"),
        (sampling(bad_words=[[1, VOCABULARY]]), "sampling.bad_words"),
        (sampling(allowed_token_ids=[VOCABULARY]), "sampling.allowed_token_ids"),
    ],
)
def test_wrong_values_are_refused_by_name(message: worker_pb2.Submit, field: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        check_submit(message, vocabulary_size=VOCABULARY)
    assert caught.value.metadata["field"] == field


def test_what_is_at_its_limits_is_taken() -> None:
    ids = list(range(32))
    message = sampling(
        min_p=1.0,
        frequency_penalty=-2.0,
        presence_penalty=2.0,
        repetition_penalty=10.0,
        no_repeat_ngram=64,
        logit_bias={id: 100.0 - 200 * (id % 2) for id in range(VOCABULARY)},
        bad_words=[ids] * 64,
        allowed_token_ids=[VOCABULARY - 1] * 16_384,
    )
    message.MergeFrom(submit(stop_sequences=[ids] * 16, min_tokens=5, max_tokens=5))
    check_submit(message, vocabulary_size=VOCABULARY)
    check_submit(submit(max_tokens=0), vocabulary_size=VOCABULARY)
    check_submit(generated([1, 2], forced_token_ids=[1]), vocabulary_size=VOCABULARY)
    check_submit(generated([1], forced_token_ids=[1, 2]), vocabulary_size=VOCABULARY)


def test_outputs_are_bounded_by_what_the_group_runs_at_once() -> None:
    check_submit(sampling(n=32), vocabulary_size=VOCABULARY)
    check_submit(sampling(n=3), vocabulary_size=VOCABULARY, max_outputs=3)
    with pytest.raises(InvalidArgumentError) as caught:
        check_submit(sampling(n=4), vocabulary_size=VOCABULARY, max_outputs=3)
    assert caught.value.metadata == {"field": "sampling.n", "value": "4", "limit": "from 1 to 3"}


def test_what_was_generated_belongs_to_outputs_that_there_are() -> None:
    message = sampling(n=3)
    for index in (2, 0):
        message.generated.add(output_index=index, token_ids=[1])
    check_submit(message, vocabulary_size=VOCABULARY)
    for index in (0, 3):
        wrong = worker_pb2.Submit.FromString(message.SerializeToString())
        wrong.generated.add(output_index=index)
        with pytest.raises(InvalidArgumentError) as caught:
            check_submit(wrong, vocabulary_size=VOCABULARY)
        assert caught.value.metadata["field"] == "generated.output_index"


def test_known_tokens_are_scored_up_to_what_a_message_holds() -> None:
    for positions, options in [
        ({"prompt_token_ids": [1] * 24_966}, LogprobOptions(prompt=True, top=20)),
        ({"forced_token_ids": [1] * 24_966}, LogprobOptions(generated=True, top=20)),
    ]:
        check_submit(submit(**positions, logprobs=options), vocabulary_size=VOCABULARY)
        for ids in positions.values():
            ids.append(1)
        with pytest.raises(InvalidArgumentError) as caught:
            check_submit(submit(**positions, logprobs=options), vocabulary_size=VOCABULARY)
        assert caught.value.metadata["field"] == "logprobs.top"
        assert "524288" in caught.value.metadata["limit"]


@pytest.mark.parametrize(
    ("message", "field", "value"),
    [
        (sampling(allowed_token_ids=[1] * 16_385), "sampling.allowed_token_ids", "16385"),
        (sampling(logit_bias=dict.fromkeys(range(1025), 1.0)), "sampling.logit_bias", "1025"),
    ],
)
def test_too_many_are_refused_with_their_number(
    message: worker_pb2.Submit, field: str, value: str
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        check_submit(message, vocabulary_size=2000)
    assert (caught.value.metadata["field"], caught.value.metadata["value"]) == (field, value)
    assert "at most" in caught.value.metadata["limit"]
