"""What every dialect's file gives: a `Dialect`, or the refusal of what is not read."""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from octavo.errors import InvalidArgumentError
from services.worker.input_scheme import InputScheme
from services.worker.model_config import checkpoint_error

_shown = reprlib.Repr()  # a value may be deep, from anyone
_shown.maxstring = _shown.maxother = 80


@dataclass(frozen=True, kw_only=True, slots=True)
class InputRule:
    """How the inputs of a matrix are rounded, by what is stored.

    stored: whether the matrix has a scale for its inputs, which makes them static; without one
    they are as `otherwise` says, None: not rounded.
    """

    stored: Literal["required", "optional", "absent"]
    otherwise: InputScheme | None


STATIC = InputRule(stored="required", otherwise=None)
DYNAMIC = InputRule(stored="absent", otherwise=InputScheme())
STATIC_IF_STORED = InputRule(stored="optional", otherwise=InputScheme())
AS_THEY_ARE = InputRule(stored="absent", otherwise=None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Dialect:
    """How one family of checkpoints writes its matrices.

    block: rows and columns that share a scale where scales come in blocks; None: none do.
    bits_in_int8: whether e4m3 may be stored as I8, its bits as they are.
    input_rule: by the name of a matrix, without ".weight".
    """

    name: str
    block: tuple[int, int] | None
    bits_in_int8: bool
    input_rule: Callable[[str], InputRule]


def unsupported(key: str, value: object) -> InvalidArgumentError:
    """The refusal of a dialect, by the key that tells."""
    return checkpoint_error(
        "config.json",
        f"quantization_config.{key} is {_shown.repr(value):.80}; this version reads 16-bit and"
        " 32-bit checkpoints, and FP8 (e4m3) of Friendli, AutoFP8, compressed-tensors, ModelOpt"
        " and DeepSeek: docs/fp8.md lists them",
        key=f"quantization_config.{key}",
    )


def read_block(key: str, value: Any) -> tuple[int, int]:
    """[rows, columns], or the text "128x128"."""
    sizes: Any = value.split("x") if isinstance(value, str) else value
    if isinstance(sizes, list) and len(sizes) == 2:
        rows, columns = map(_whole_number, sizes)
        if all(type(n) is int and 0 < n < 2**31 for n in (rows, columns)):
            return rows, columns
    raise unsupported(key, value)


def _whole_number(value: Any) -> Any:
    """The number that a short text is; everything else as it is."""
    is_number = isinstance(value, str) and value.isdecimal() and len(value) < 10
    return int(value) if is_number else value
