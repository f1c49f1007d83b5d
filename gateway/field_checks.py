"""The checks that a request's fields go through: each takes the path as the client would write it
and the value, and raises InvalidArgumentError naming field, value and limit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from octavo.errors import InvalidArgumentError, InWords, invalid_field

MAX_UINT32 = 2**32 - 1
MAX_PROMPT_TOKENS = 2**20
MAX_JSON_DEPTH = 32
MAX_JSON_ITEMS = 10_000
MAX_JSON_BYTES = 256 * 1024
# A Struct has one kind of number, in which larger ones are no longer exact.
MAX_JSON_INTEGER = 2**53
_JSON_LIMIT = (
    f"at most {MAX_JSON_DEPTH} levels deep, with {MAX_JSON_ITEMS} values"
    f" and {MAX_JSON_BYTES} bytes of text"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One check. `schema` says in JSON Schema what passes, as far as that can say it."""

    run: Callable[[str, Any], None]
    schema: Mapping[str, Any]

    def __call__(self, field: str, value: Any) -> None:
        self.run(field, value)


def whole_number(low: int, high: int) -> Check:
    """An integer from low to high, both included."""

    def check(field: str, value: Any) -> None:
        is_integer = isinstance(value, int) and not isinstance(value, bool)
        if not is_integer or not low <= value <= high:
            raise invalid_field(field, value, f"a whole number from {low} to {high}")

    return Check(run=check, schema={"type": "integer", "minimum": low, "maximum": high})


def number(low: float, high: float, *, low_included: bool = True) -> Check:
    """A finite number from low (or above it) to high."""
    limit = (
        f"a number {'from' if low_included else 'above'} {low:g} {'' if low_included else 'and '}"
    )
    limit += f"{'to' if low_included else 'up to'} {high:g}"
    lowest = "minimum" if low_included else "exclusiveMinimum"

    def check(field: str, value: Any) -> None:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not low <= value <= high:  # NaN is neither
            raise invalid_field(field, value, limit)
        if value == low and not low_included:
            raise invalid_field(field, value, limit)

    return Check(run=check, schema={"type": "number", lowest: low, "maximum": high})


def text(min_bytes: int, max_bytes: int) -> Check:
    """Valid Unicode of so many bytes in UTF-8."""
    limit = f"{min_bytes} to {max_bytes} bytes"

    def check(field: str, value: Any) -> None:
        if isinstance(value, str) and len(value) > max_bytes:  # at least so many; not counted
            raise invalid_field(field, InWords(f"{len(value)} characters"), limit)
        num_bytes = utf8_length(field, value)
        if not min_bytes <= num_bytes <= max_bytes:
            raise invalid_field(field, InWords(f"{num_bytes} bytes"), limit)

    schema: dict[str, Any] = {"type": "string", "maxLength": max_bytes}
    return Check(run=check, schema={**schema, "minLength": 1} if min_bytes else schema)


def matching(pattern: str, limit: str) -> Check:
    """Text that the pattern matches as a whole."""
    compiled = re.compile(pattern)

    def check(field: str, value: Any) -> None:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise invalid_field(field, value, limit)

    return Check(run=check, schema={"type": "string", "pattern": f"^{pattern}$"})


def list_of(check_item: Check, *, min_items: int = 0, max_items: int) -> Check:
    """A list of so many items, each of which passes `check_item`."""

    def check(field: str, value: Any) -> None:
        if not isinstance(value, Sequence) or isinstance(value, str | bytes):
            raise invalid_field(field, value, "a list")
        if not min_items <= len(value) <= max_items:
            raise invalid_field(
                field, InWords(f"{len(value)} items"), f"{min_items} to {max_items} items"
            )
        for index, item in enumerate(value):
            check_item(f"{field}[{index}]", item)

    schema: dict[str, Any] = {"type": "array", "items": check_item.schema, "maxItems": max_items}
    return Check(run=check, schema={**schema, "minItems": min_items} if min_items else schema)


def token_ids(*, min_items: int = 0, max_items: int) -> Check:
    """A list of so many token ids. What they are is checked against the model's vocabulary, a
    prompt's only once its length was: a million ids take long to look at.
    """

    def check(field: str, value: Any) -> None:
        if not min_items <= len(value) <= max_items:
            raise invalid_field(
                field, InWords(f"{len(value)} ids"), f"{min_items} to {max_items} token ids"
            )

    items = {"type": "integer", "minimum": 0, "maximum": MAX_UINT32}
    schema: dict[str, Any] = {"type": "array", "items": items, "maxItems": max_items}
    return Check(run=check, schema={**schema, "minItems": min_items} if min_items else schema)


def by_token_id(check_value: Check, *, max_items: int) -> Check:
    """A mapping from so many token ids to values that pass `check_value`."""

    def check(field: str, value: Any) -> None:
        if len(value) > max_items:
            raise invalid_field(
                field, InWords(f"{len(value)} token ids"), f"at most {max_items} token ids"
            )
        for token_id, item in value.items():
            check_value(f"{field}[{token_id}]", item)

    schema = {
        "type": "object",
        "additionalProperties": check_value.schema,
        "maxProperties": max_items,
    }
    return Check(run=check, schema=schema)


def _check_flag(field: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise invalid_field(field, value, "true or false")


def _check_json_object(field: str, value: Any) -> None:
    """Walks without recursion."""
    waiting: list[tuple[Any, int]] = [(value, 0)]
    num_items = num_bytes = 0
    while waiting:
        item, depth = waiting.pop()
        num_items += 1
        num_bytes += utf8_length(field, item) if isinstance(item, str) else 0
        if depth > MAX_JSON_DEPTH or num_items > MAX_JSON_ITEMS or num_bytes > MAX_JSON_BYTES:
            raise invalid_field(field, InWords("larger JSON"), _JSON_LIMIT)
        waiting.extend((inner, depth + 1) for inner in _inner_values(field, item))


# True or false.
FLAG = Check(run=_check_flag, schema={"type": "boolean"})
# JSON of bounded depth and size, its numbers finite.
JSON_OBJECT = Check(run=_check_json_object, schema={"type": "object"})


def utf8_length(field: str, value: Any) -> int:
    """The length of a text in UTF-8; a lone surrogate has none."""
    if not isinstance(value, str):
        raise invalid_field(field, value, "text")
    try:
        return len(value) if value.isascii() else len(value.encode())
    except UnicodeEncodeError as error:
        raise invalid_field(field, value[error.start], "valid Unicode text") from None


def _inner_values(field: str, value: Any) -> Sequence[Any]:
    if isinstance(value, Mapping):
        return [*value.keys(), *value.values()]
    if isinstance(value, list | tuple):
        return value
    if isinstance(value, float) and not math.isfinite(value):
        raise invalid_field(field, value, "JSON with finite numbers")
    if isinstance(value, int) and abs(value) > MAX_JSON_INTEGER:
        limit = f"JSON with whole numbers of at most {MAX_JSON_INTEGER}"
        raise invalid_field(field, value, limit)
    if value is not None and not isinstance(value, str | bool | int | float):
        raise _not_json(field, value)
    return ()


def _not_json(field: str, value: Any) -> InvalidArgumentError:
    return invalid_field(field, type(value).__name__, "JSON")
