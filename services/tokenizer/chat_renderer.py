"""From a conversation to ids: what a user wrote never becomes a special token.

Special tokens in what users wrote are replaced by marks before the template runs. Afterwards the
special tokens that stand in the text are the template's own; they become ids, and the marks become
the ordinary text that the user wrote.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from octavo.errors import InvalidArgumentError, invalid_field
from services.tokenizer.backends import TokenizerBackend
from services.tokenizer.template_runner import TemplateRunner
from services.tokenizer.tokenizer_config import TokenizerConfig

# Tags of templates that are ordinary text to the tokenizer: no mark can tell a user's from the
# template's, so what users write must not hold them (the reference code of Llama 2 refuses too).
_TEXT_TAGS = ("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>")
# Variables of every template; arguments of a request may not replace them.
_RESERVED = ("messages", "tools", "add_generation_prompt", "bos_token", "eos_token")
# Marks are made of private-use characters: no filter of a template changes or strips them.
_OPEN, _CLOSE = "\ue0f0", "\ue0f1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rendered:
    """A conversation as ids, and the text that they stand for."""

    ids: Sequence[int]
    text: str


class ChatRenderer:
    """The chat template of one checkpoint."""

    def __init__(
        self,
        backend: TokenizerBackend,
        config: TokenizerConfig,
        runner: TemplateRunner,
        in_thread: Callable[..., Awaitable[Any]],
    ) -> None:
        self._backend = backend
        self._tokens = dict(config.tokens)
        self._runner = runner
        self._in_thread = in_thread
        template = config.chat_template or ""
        special = sorted(backend.special_ids, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, special)) or r"(?!)")
        self._tags = [
            tag for tag in _TEXT_TAGS if tag in template and tag not in backend.special_ids
        ]

    async def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]],
        arguments: Mapping[str, Any],
        *,
        add_generation_prompt: bool,
    ) -> Rendered:
        """Renders and encodes. Raises InvalidArgumentError."""
        for name in arguments:
            if name in _RESERVED:
                raise invalid_field("chat.template_arguments", name, "a name of its own")
        marks = _Marks(self._special)
        variables = marks.protected({**arguments, "messages": messages, "tools": tools or None})
        self._refuse_tags([messages, tools, arguments])
        text = await self._runner.render(
            {**self._tokens, **variables, "add_generation_prompt": add_generation_prompt}
        )
        ids = await self._in_thread(self._encode, text, marks)
        return Rendered(ids=ids, text=marks.restored(text))

    def _encode(self, text: str, marks: _Marks) -> Sequence[int]:
        if not marks.used:
            return self._backend.encode_template(text)
        ids: list[int] = []
        start = 0
        for match in self._special.finditer(text):
            ids.extend(self._encode_ordinary(marks.restored(text[start : match.start()])))
            ids.append(self._backend.special_ids[match[0]])
            start = match.end()
        ids.extend(self._encode_ordinary(marks.restored(text[start:])))
        return ids

    def _encode_ordinary(self, text: str) -> Sequence[int]:
        return self._backend.encode([text], add_special_tokens=False)[0].ids if text else ()

    def _refuse_tags(self, value: Any) -> None:
        for text in _strings(value):
            for tag in self._tags:
                if tag in text:
                    raise InvalidArgumentError(
                        f"chat.messages holds {tag}, which is a tag of the model's chat template.",
                        reason="CHAT_TEMPLATE_TAG",
                        metadata={"field": "chat.messages", "value": tag, "limit": "no tags"},
                    )


class _Marks:
    """The marks that stand for special tokens in what one request's user wrote."""

    def __init__(self, special: re.Pattern[str]) -> None:
        self._special = special
        self._nonce = secrets.token_hex(8)
        self._texts: list[str] = []

    @property
    def used(self) -> bool:
        """Whether anything was marked."""
        return bool(self._texts)

    def protected(self, value: Any) -> Any:
        """`value` with each special token in a text of it replaced by a mark."""
        if isinstance(value, str):
            return self._special.sub(self._mark, value)
        if isinstance(value, Mapping):
            return {self.protected(key): self.protected(entry) for key, entry in value.items()}
        if isinstance(value, Sequence):
            return [self.protected(entry) for entry in value]
        return value

    def restored(self, text: str) -> str:
        """`text` with each mark replaced by what it stands for. Raises InvalidArgumentError where
        the template cut a mark in two.
        """
        for index, original in enumerate(self._texts):
            text = text.replace(self._text_of(index), original)
        if self._nonce in text:
            raise InvalidArgumentError(
                "chat.messages holds a special token that the chat template takes apart.",
                reason="CHAT_TEMPLATE_ERROR",
                metadata={"field": "chat.messages", "limit": "no special tokens"},
            )
        return text

    def _mark(self, match: re.Match[str]) -> str:
        self._texts.append(match[0])
        return self._text_of(len(self._texts) - 1)

    def _text_of(self, index: int) -> str:
        return f"{_OPEN}{self._nonce}.{index}{_CLOSE}"


def _strings(value: Any) -> Sequence[str]:
    """All texts within `value`."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, Mapping):
        value = [*value.keys(), *value.values()]
    if isinstance(value, Sequence):
        return [text for entry in value for text in _strings(entry)]
    return ()
