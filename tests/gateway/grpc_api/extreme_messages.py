"""Messages with any field set to any value that the wire carries, drawn from a descriptor."""

from __future__ import annotations

import functools
import math
from typing import Any

from google.protobuf import struct_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

_MAX_DEPTH = 4
FLOATS = [math.nan, math.inf, -math.inf, 0.0, -0.0, 0.5, 1.0, -1.0, 2.0, 100.5]
FLOATS += [1e21, -1e38, 2.0**63, 5e-324]
_TEXTS = ["", "x", "tiny", "é" * 150, "x" * 2_000, "\x00", "\u202e", "\ufffd\ufffe", "<|im_end|>"]
_TEXTS += ["\N{LLAMA}" * 3_000, "a b", "{}"]
INTEGERS: dict[int, list[Any]] = {
    FieldDescriptor.CPPTYPE_INT32: [0, 1, -1, 7, 2**31 - 1, -(2**31)],
    FieldDescriptor.CPPTYPE_INT64: [0, 1, -1, 2**31, 2**63 - 1, -(2**63)],
    FieldDescriptor.CPPTYPE_UINT32: [0, 1, 2, 64, 65, 255, 300, 2**31, 2**32 - 1],
    FieldDescriptor.CPPTYPE_UINT64: [0, 1, 2**32, 2**63, 2**64 - 1],
    FieldDescriptor.CPPTYPE_ENUM: [0, 1, 4, 5, 99, -1, 2**31 - 1, -(2**31)],
}
_JSON = st.recursive(
    st.none() | st.booleans() | st.sampled_from(FLOATS) | st.sampled_from(_TEXTS),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(_TEXTS), inner),
    max_leaves=4,
)


@functools.cache
def messages(descriptor: Descriptor, depth: int = 0) -> st.SearchStrategy[Any]:
    """Messages of that type: few fields of many, as a client would set them."""
    if descriptor is struct_pb2.Struct.DESCRIPTOR:
        return st.dictionaries(st.sampled_from(_TEXTS), _JSON, max_size=2).map(_struct)
    fields = [
        st.tuples(st.just(field), _values(field, depth))
        for field in descriptor.fields
        if depth < _MAX_DEPTH or field.message_type is None
    ]
    if not fields:
        return st.just(GetMessageClass(descriptor)())
    chosen = st.lists(st.one_of(fields), max_size=3)
    return chosen.map(lambda values: _message(descriptor, values))


def _values(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        key, value = field.message_type.fields
        return st.dictionaries(_value(key, depth), _value(value, depth), max_size=3)
    if field.is_repeated:
        few = st.lists(_value(field, depth), max_size=3)
        return few | _value(field, depth).map(lambda value: [value] * 40)
    return _value(field, depth)


def _value(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        return messages(field.message_type, depth + 1)
    if field.cpp_type in INTEGERS:
        return st.sampled_from(INTEGERS[field.cpp_type])
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return st.booleans()
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return st.sampled_from(_TEXTS)
    return st.sampled_from(FLOATS)


def _message(descriptor: Descriptor, values: list[tuple[FieldDescriptor, Any]]) -> Message:
    message = GetMessageClass(descriptor)()
    for field, value in values:
        if isinstance(value, dict):
            getattr(message, field.name).update(value)
        elif isinstance(value, list):
            getattr(message, field.name).extend(value)
        elif isinstance(value, Message):
            getattr(message, field.name).CopyFrom(value)
        else:
            setattr(message, field.name, value)
    return message


def _struct(values: dict[str, Any]) -> struct_pb2.Struct:
    struct = struct_pb2.Struct()
    struct.update(values)
    return struct
