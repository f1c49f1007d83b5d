"""Which matrices a list of names, "re:" patterns and classes means."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from services.worker.checkpoint.dialects.dialect import unsupported

_CLASS = "Linear"
_MAX_PATTERN = 500  # characters
# A pattern comes with a checkpoint, from anyone, and Python's matcher may take exponential time.
_MAX_REPEATS = 4
_REPEATED_GROUP = re.compile(r"\)\s*[*+{]")
_REPEAT = re.compile(r"[*+{]")


@dataclass(frozen=True, kw_only=True, slots=True)
class Targets:
    """A list of targets; `closeness` says how closely it names a matrix."""

    names: Collection[str]
    patterns: Sequence[re.Pattern[str]]

    @classmethod
    def read(cls, key: str, values: Any) -> Targets:
        """Raises InvalidArgumentError for what is no list of texts, or a pattern not taken."""
        if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
            raise unsupported(key, values)
        patterns = [each.removeprefix("re:") for each in values if each.startswith("re:")]
        return cls(
            names=frozenset(each for each in values if not each.startswith("re:")),
            patterns=[_compile(key, pattern) for pattern in patterns],
        )

    def closeness(self, matrix: str) -> int:
        """3: by its name, 2: by a pattern, 1: because every linear layer is meant, 0: not."""
        if matrix in self.names:
            return 3
        if any(pattern.match(matrix) for pattern in self.patterns):
            return 2
        return 1 if _CLASS in self.names else 0


def _compile(key: str, pattern: str) -> re.Pattern[str]:
    if (
        len(pattern) > _MAX_PATTERN
        or len(_REPEAT.findall(pattern)) > _MAX_REPEATS
        or _REPEATED_GROUP.search(pattern)
    ):
        raise unsupported(key, f"re:{pattern}")
    try:
        return re.compile(pattern)
    except (re.error, OverflowError, RecursionError):
        raise unsupported(key, f"re:{pattern}") from None
