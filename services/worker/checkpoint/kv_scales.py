"""The scales of keys and values in an FP8 cache, under all their names (tensor_names.py)."""

from __future__ import annotations

from dataclasses import dataclass

from services.worker.checkpoint.matrix_source import read_one_scale
from services.worker.checkpoint.reader import CheckpointReader
from services.worker.checkpoint.tensor_names import kv_scale_names


@dataclass(frozen=True, kw_only=True, slots=True)
class KVScales:
    """What codes of keys and of values are multiplied by; None: the checkpoint does not say.

    `tensors` hold them.
    """

    key: float | None
    value: float | None
    tensors: frozenset[str]


def find_kv_scales(reader: CheckpointReader, attention: str) -> KVScales:
    """The scales of one attention. Raises InvalidArgumentError for a wrong one."""
    names = [_stored_name(reader, attention, letter) for letter in "kv"]
    key, value = (None if name is None else read_one_scale(reader, name) for name in names)
    return KVScales(key=key, value=value, tensors=frozenset(name for name in names if name))


def _stored_name(reader: CheckpointReader, attention: str, letter: str) -> str | None:
    names = kv_scale_names(attention, letter)
    return next((name for name in names if name in reader.tensors), None)
