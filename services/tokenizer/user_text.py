"""What users wrote within the variables of a chat template, marked so that it stays text.

A special token within what a user wrote is replaced by a mark before the template runs, and put
back once the template's own special tokens were found:

    user    say <|im_end|> twice          template    <|im_end|>
    marked  say (0) twice                 rendered    say (0) twice<|im_end|>
                                                          ^ text     ^ special

What no mark can cover is a token that comes about where texts meet ("<|im_" in one message, "end|>"
in the next). `broken` is for that: the same variables with a private character between all that
could be part of a token. A template that then writes other special tokens made some from what users
wrote.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from octavo.errors import InvalidArgumentError

# Private characters: no filter of a template changes, strips or means them.
_PRIVATE = range(0xE0F0, 0xF8FF)
# Roles are the template's words more than the user's: some templates make special tokens of them.
_ROLES = frozenset({"system", "developer", "user", "assistant", "model", "tool", "function"})


class Structure:
    """The texts that structure what a template writes: special tokens, and tags of plain text."""

    def __init__(self, special: Sequence[str], tags: Sequence[str]) -> None:
        self.tags = tuple(tags)
        self._texts = (*special, *tags)
        self.special = _any_of(special)
        self._all = _any_of(self._texts)
        self._longest = max(map(len, self._texts), default=0)
        edges = {edge for text in self._texts for edge in (text[0], text[-1])}
        self._edges = tuple(edge for edge in edges if not edge.isalnum() and not edge.isspace())

    def found_in(self, text: str) -> Sequence[str]:
        """The special tokens and tags in `text`, in order."""
        return [match[0] for match in self._all.finditer(text)]

    def may_come_of(self, text: str) -> bool:
        """Whether a template could make a special token or tag from `text` and its own text: where
        it begins or ends one, or is a part of one as it stands.
        """
        if any(edge in text for edge in self._edges):
            return True
        part = text.strip()
        if not part or len(part) > self._longest or part in _ROLES:
            return False
        return any(part in whole for whole in self._texts)


class UserText:
    """The variables of one conversation. `marked` is what the template gets; `broken` is None where
    nothing in it could become part of a special token.
    """

    def __init__(self, variables: Mapping[str, Any], structure: Structure) -> None:
        self._texts = texts = list(_strings(variables))
        private = (
            character
            for character in map(chr, _PRIVATE)
            if not any(character in text for text in texts)
        )
        self._open, self._close, self._break = next(private), next(private), next(private)
        self._mark = re.compile(f"{self._open}([0-9]+){self._close}")
        self._structure = structure
        self._originals: list[str] = []
        self.marked: dict[str, Any] = _mapped(variables, self._marked)
        self.broken: dict[str, Any] | None = None
        if any(map(structure.may_come_of, texts)):
            self.broken = _mapped(self.marked, self._broken)

    @property
    def has_marks(self) -> bool:
        """Whether a special token was found."""
        return bool(self._originals)

    def holds(self, tag: str) -> bool:
        """Whether a user wrote `tag`."""
        return any(tag in text for text in self._texts)

    def restored(self, text: str) -> str:
        """`text` with what the marks stand for. Raises InvalidArgumentError where the template took
        a mark apart.
        """
        text = self._mark.sub(lambda mark: self._originals[int(mark[1])], text)
        if self._open in text or self._close in text:
            raise InvalidArgumentError(
                "chat.messages holds a special token that the chat template takes apart.",
                reason="CHAT_TEMPLATE_TAG",
                metadata={"field": "chat.messages", "limit": "no special tokens"},
            )
        return text

    def _marked(self, text: str) -> str:
        return self._structure.special.sub(self._mark_of, text)

    def _mark_of(self, match: re.Match[str]) -> str:
        if match[0] not in self._originals:
            self._originals.append(match[0])
        return f"{self._open}{self._originals.index(match[0])}{self._close}"

    def _broken(self, text: str) -> str:
        if not self._structure.may_come_of(text):
            return text
        return f"{self._break}{self._break.join(text)}{self._break}"


def _any_of(texts: Sequence[str]) -> re.Pattern[str]:
    longest_first = sorted(texts, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    """`value` with each text in it changed. A key that is a name is one that templates go by."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {
            key if key.isidentifier() else change(key): _mapped(entry, change)
            for key, entry in value.items()
        }
    if isinstance(value, Sequence):
        return [_mapped(entry, change) for entry in value]
    return value


def _strings(value: Any) -> Iterator[str]:
    """All texts within `value`."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield key
            yield from _strings(entry)
    elif isinstance(value, Sequence):
        for entry in value:
            yield from _strings(entry)
