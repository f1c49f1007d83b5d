"""The scales of keys and values in an FP8 cache, under all their names.

<attention>.k_scale, .v_scale                      AutoFP8, compressed-tensors
<attention>.kv_scale                               AutoFP8 before that: both
<attention>.k_proj.k_scale, .v_proj.v_scale        ModelOpt
<attention>.k_proj.output_scale, .v_proj.output_scale   compressed-tensors before that
"""

from __future__ import annotations

from dataclasses import dataclass

from services.worker.checkpoint.matrix_source import read_one_scale
from services.worker.checkpoint.reader import CheckpointReader


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
    kinds = (
        f"{letter}_scale",
        f"{letter}_proj.{letter}_scale",
        f"{letter}_proj.output_scale",
        "kv_scale",
    )
    return next((n for n in (f"{attention}.{kind}" for kind in kinds) if n in reader.tensors), None)
