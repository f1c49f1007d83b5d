"""What a submit may ask for."""

from __future__ import annotations

import math
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from octavo.errors import InvalidArgumentError
from octavo.v1 import worker_pb2
from services.worker.front.submit_check import ACCEPTED_FIELDS, check_submit, set_fields

VOCABULARY = 320


def submit(**fields: object) -> worker_pb2.Submit:
    values: dict[str, object] = {"key": 1, "prompt_token_ids": [0, 5], **fields}
    return worker_pb2.Submit(**values)  # type: ignore[arg-type]  # built from a table


def sampling(**fields: object) -> worker_pb2.Submit:
    return submit(sampling=worker_pb2.ResolvedSampling(**fields))  # type: ignore[arg-type]  # same


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
    elif field.is_repeated:
        value.add() if is_message else value.append(1)
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
        (submit(generated=[worker_pb2.GeneratedTokens()] * 2), "generated"),
        (
            submit(generated=[worker_pb2.GeneratedTokens(token_ids=[VOCABULARY])]),
            "generated.token_ids",
        ),
        (submit(max_tokens=0), "max_tokens"),
        (sampling(temperature=-1.0), "sampling.temperature"),
        (sampling(temperature=math.nan), "sampling.temperature"),
        (sampling(temperature=math.inf), "sampling.temperature"),
        (sampling(top_p=0.0), "sampling.top_p"),
        (sampling(top_p=math.nan), "sampling.top_p"),
        (sampling(top_p=1.5), "sampling.top_p"),
        (sampling(n=2), "sampling.n"),
        (sampling(n=0), "sampling.n"),
    ],
)
def test_wrong_values_are_refused_by_name(message: worker_pb2.Submit, field: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        check_submit(message, vocabulary_size=VOCABULARY)
    assert caught.value.metadata["field"] == field
