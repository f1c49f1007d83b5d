"""What OpenAI's clients call the fields that the core names by their path in GenerateRequest."""

from __future__ import annotations

import re
from collections.abc import Mapping

_RENAMED = {
    "request_id": "x-request-id",
    "input": "prompt",
    "token_ids": "prompt",
    "chat": "messages",
    "chat.template_arguments": "chat_template_kwargs",
    "stopping.include_stop": "include_stop_str_in_output",
    "constraint": "response_format",
}
# These messages of the core are flat here: sampling.top_p is top_p.
_GROUPS = ("chat.", "sampling.", "stopping.", "output.")


def openai_name(path: str, names: Mapping[str, str]) -> str:
    """`chat.messages[2].content` is `messages[2].content`; `names` goes before the rules."""
    plain, index = _split_index(path)
    if renamed := names.get(plain) or _RENAMED.get(plain):
        return renamed + index
    for group in _GROUPS:
        if path.startswith(group):
            return path.removeprefix(group)
    return path


def _split_index(path: str) -> tuple[str, str]:
    """`token_ids[3]` into `token_ids` and `[3]`."""
    match = re.fullmatch(r"([^\[]*)(\[.*)?", path, re.DOTALL)
    assert match is not None
    return match[1], match[2] or ""
