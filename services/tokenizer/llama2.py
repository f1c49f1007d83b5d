r"""Llama 2's chat format, as its reference code has it (facebookresearch/llama, generation.py).

    <s>[INST] <<SYS>>\n{system}\n<</SYS>>\n\n{user} [/INST] {answer} </s><s>[INST] {user} [/INST]

`<s>` and `</s>` are ids; what stands between them is encoded by itself, and begins with a space as
every text does. The four tags are ordinary text, so what users write must not hold them: the
reference code refuses too. The system's text becomes part of the first user's before that is
stripped, and is not stripped by itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from octavo.errors import InWords, invalid_field
from services.tokenizer.backends import TokenizerBackend

TAGS = frozenset({"[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"})

CHAT_TEMPLATE = r"""
{%- set system = messages[0].content if messages[0].role == 'system' else none -%}
{%- for message in (messages if system is none else messages[1:]) -%}
  {%- set content = message.content -%}
  {%- if loop.first and system is not none -%}
    {%- set content = '<<SYS>>\n' + system + '\n<</SYS>>\n\n' + content -%}
  {%- endif -%}
  {%- if message.role == 'user' -%}
    {{- '<s>[INST] ' + content.strip() + ' [/INST]' -}}
  {%- else -%}
    {{- ' ' + content.strip() + ' </s>' -}}
  {%- endif -%}
{%- endfor -%}
"""

_NAMES = re.compile(r"llama[-_]?2.*chat", re.IGNORECASE)
_INST_IDS = (518, 25580, 29962)  # of "[INST]" in the vocabulary of Llama 1 and 2, and in no other


def check_roles(messages: Sequence[Mapping[str, Any]], *, is_answered: bool) -> None:
    """Raises InvalidArgumentError unless an optional system's message is followed by a user's, an
    assistant's and so on in turn. Where no answer follows, the assistant's may be the last.
    """
    first = 1 if messages and messages[0]["role"] == "system" else 0
    if len(messages) == first:
        raise invalid_field("chat.messages", InWords("without a user's"), "one at least")
    for index, message in enumerate(messages[first:], start=first):
        wanted = "user" if (index - first) % 2 == 0 else "assistant"
        if message["role"] != wanted:
            limit = f"{wanted}: user and assistant take turns, after a system's message or none"
            raise invalid_field(f"chat.messages[{index}].role", message["role"], limit)
    if is_answered and messages[-1]["role"] != "user":
        last = len(messages) - 1
        limit = "user: the last message is the one that is answered"
        raise invalid_field(f"chat.messages[{last}].role", messages[-1]["role"], limit)


def encode_turns(backend: TokenizerBackend, parts: Sequence[str | int]) -> Sequence[int]:
    """Special ids, and the texts between them, each with the space that a text begins with.

    Some tokenizer.json of these models put that space before the first text alone: the reference
    code knows no such thing.
    """
    ids: list[int] = []
    for part in parts:
        if isinstance(part, int):
            ids.append(part)
        elif part:
            ids += backend.encode([part], add_special_tokens=False)[0].ids
    return ids


def is_chat_model(folder: Path, backend: TokenizerBackend) -> bool:
    """Whether the folder's model was trained on this format, for a folder that has no template.

    The chat models of Llama 2 and their base models differ in nothing but their weights and names:
    so it is one where the vocabulary is Llama 2's and the name says so, that of the folder, of the
    repository in a hub's cache, or `_name_or_path` of config.json.
    """
    (tags,) = backend.encode(["[INST]"], add_special_tokens=False)
    return tuple(tags.ids) == _INST_IDS and any(map(_NAMES.search, _names(folder)))


def _names(folder: Path) -> Sequence[str]:
    resolved = folder.resolve()
    in_cache = [part for part in resolved.parts if part.startswith("models--")]
    return [folder.name, resolved.name, *in_cache, _name_in_config(folder / "config.json")]


def _name_in_config(path: Path) -> str:
    """Empty where the file says none; whether it can be used is for the worker to say."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return ""
    return str(values.get("_name_or_path") or "") if isinstance(values, dict) else ""
