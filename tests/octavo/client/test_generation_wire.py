"""Every field of the public wire's answers arrives in its type."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from google.protobuf.message import Message

from octavo.client.generation_types import Delta, Finished, FinishReason
from octavo.client.generation_wire import event_from_pb, generation_from_pb, model_from_pb
from octavo.errors import DataLossError
from octavo.v1 import generation_pb2 as pb


def filled(message: Any) -> Any:
    """`message` with a value in every field; of alternatives the last one stays."""
    for number, field in enumerate(message.DESCRIPTOR.fields, 2):
        value: Any = {"string": f"{field.name}", "bytes": b"b"}.get(kind(field), number)
        if field.message_type is not None:
            inner = getattr(message, field.name)
            filled(inner.add() if field.is_repeated else inner)
        elif field.is_repeated:
            getattr(message, field.name).append(value)
        else:
            setattr(message, field.name, bool(value) if kind(field) == "bool" else value)
    return message


def kind(field: Any) -> str:
    names = {field.TYPE_STRING: "string", field.TYPE_BYTES: "bytes", field.TYPE_BOOL: "bool"}
    return names.get(field.type, "number")


def same(message: Any, value: Any) -> None:
    """Every field of the message is in the value, under the same name."""
    for field in message.DESCRIPTOR.fields:
        given, taken = getattr(message, field.name), getattr(value, field.name)
        if field.is_repeated:
            assert len(given) == len(taken)
            given, taken = given[0], taken[0]
        if isinstance(given, Message):
            same(given, taken)
        elif field.containing_oneof is None or message.HasField(field.name):
            assert given == pytest.approx(taken) if isinstance(given, float) else given == taken


def test_accepted_usage_and_delta() -> None:
    for kind_, message in (("accepted", pb.Accepted), ("usage", pb.Usage), ("delta", pb.Delta)):
        given = filled(message())
        arguments: Any = {kind_: given}
        same(given, event_from_pb(pb.StreamGenerateResponse(**arguments)))


def test_a_model() -> None:
    given = filled(pb.Model())
    taken = model_from_pb(given)
    same(given, taken)
    assert {field.name for field in dataclasses.fields(taken.capabilities)} == {
        field.name for field in pb.Capabilities.DESCRIPTOR.fields
    }


def test_a_whole_answer() -> None:
    given = filled(pb.GenerateResponse())
    given.outputs[0].finished.reason = pb.FinishReason.FINISH_REASON_LENGTH
    taken = generation_from_pb(given)
    same(given.accepted, taken.accepted)
    same(given.usage, taken.usage)
    assert taken.text == "text"
    assert taken.finish_reason is FinishReason.LENGTH
    assert taken.outputs[0].finished.stop_token_sequence == (2,)


def test_absent_is_none() -> None:
    token = pb.Token(id=0, bytes=b"")
    delta = event_from_pb(pb.StreamGenerateResponse(delta=pb.Delta(tokens=[token])))
    assert isinstance(delta, Delta) and delta.tokens[0].logprob is None
    finished = event_from_pb(pb.StreamGenerateResponse(finished=pb.Finished(stop_token_id=0)))
    assert isinstance(finished, Finished)
    assert (finished.stop_text, finished.stop_token_id) == (None, 0)


def test_every_reason_has_its_name() -> None:
    names = {name.removeprefix("FINISH_REASON_") for name in pb.FinishReason.keys()}  # noqa: SIM118
    assert {reason.value for reason in FinishReason} == names


def test_an_answer_without_output_is_none() -> None:
    with pytest.raises(DataLossError):
        generation_from_pb(pb.GenerateResponse())
