"""JSON as it goes out: UTF-8, and safe inside a line of an event stream."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response

# JSON leaves these alone; clients that split a stream with str.splitlines() would break at them.
_LINE_BREAKS = {0x85: "\\u0085", 0x2028: "\\u2028", 0x2029: "\\u2029"}


def json_bytes(value: Any) -> bytes:
    """`value` on one line. A lone surrogate (in an echoed path, say) becomes a question mark."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    if not text.isascii():
        text = text.translate(_LINE_BREAKS)
    return text.encode("utf-8", "replace")


def json_answer(value: Any) -> Response:
    """A whole answer that holds `value`."""
    return Response(json_bytes(value), media_type="application/json")
