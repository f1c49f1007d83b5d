"""What files say, fit for a line: anyone may have written them."""

from __future__ import annotations


def printable(value: object) -> str:
    """A text as it is; what is none, or would end the line, as Python writes it, cut short."""
    return value if isinstance(value, str) and value.isprintable() else f"{value!r:.80}"
