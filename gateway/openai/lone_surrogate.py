"""Where a body holds a lone surrogate: an escape that JSON has, and no text is made of.

The parser only says at which column it is; whoever wrote the body knows fields.
"""

from __future__ import annotations

import json
from typing import Any

Place = tuple[int | str, ...]


def find_lone_surrogate(body: bytes) -> Place | None:
    """The keys and indexes that lead to it; None where there is none, or no JSON around it."""
    try:
        return _find(json.loads(body))
    except (ValueError, RecursionError):
        return None


def _find(value: Any) -> Place | None:
    """The first one in the order of the body; for a key, the place of its object."""
    if isinstance(value, str):
        return () if _holds_surrogate(value) else None
    if isinstance(value, dict):
        if any(map(_holds_surrogate, value)):
            return ()
        items = list(value.items())
    else:
        items = list(enumerate(value)) if isinstance(value, list) else []
    for step, item in items:
        if (place := _find(item)) is not None:
            return (step, *place)
    return None


def _holds_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)
