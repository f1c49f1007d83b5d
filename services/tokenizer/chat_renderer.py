"""From a conversation to ids: what a user wrote never becomes a special token."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from octavo.errors import InvalidArgumentError, invalid_field
from services.tokenizer import llama2
from services.tokenizer.backends import TokenizerBackend
from services.tokenizer.template_runner import TemplateRunner
from services.tokenizer.tokenizer_config import TokenizerConfig
from services.tokenizer.user_text import Structure, UserText

# Tags of templates that may be ordinary text to the tokenizer: nothing then tells a user's from the
# template's, so what users write must not hold them (the reference code of Llama 2 refuses too).
_TAGS = (*llama2.TAGS, "<start_of_turn>", "<end_of_turn>")
_TAG_SHAPE = re.compile(r"<\|[^|<>\s]{1,64}\|>")
# Names that mean something to every template; arguments of a request may not replace them.
_RESERVED = frozenset(
    {"messages", "tools", "add_generation_prompt", "raise_exception", "strftime_now", "self"}
)
_FREE_NAMES = f"names that the server does not fill: not {', '.join(sorted(_RESERVED))}, *_token"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rendered:
    """A conversation as ids, and the text that they stand for."""

    ids: Sequence[int]
    text: str


class ChatRenderer:
    """The chat template of one checkpoint. No BOS is added to what the template writes."""

    def __init__(
        self,
        backend: TokenizerBackend,
        config: TokenizerConfig,
        runner: TemplateRunner,
        in_thread: Callable[..., Awaitable[Any]],
    ) -> None:
        self._backend = backend
        self._tokens = _token_texts(backend, config)
        self._runner = runner
        self._in_thread = in_thread
        template = config.chat_template or ""
        written = {*(tag for tag in _TAGS if tag in template), *_TAG_SHAPE.findall(template)}
        self._structure = Structure(
            special=[*backend.special_ids], tags=sorted(written - backend.special_ids.keys())
        )
        self._is_llama2 = set(self._structure.tags) >= llama2.TAGS

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
            if name in _RESERVED or name.endswith("_token"):
                raise invalid_field("chat.template_arguments", name, _FREE_NAMES)
        if self._is_llama2:
            llama2.check_roles(messages, is_answered=add_generation_prompt)
        values = {**arguments, "messages": messages, "tools": tools or None}
        user_text: UserText = await self._in_thread(self._user_text, values)
        own = {**self._tokens, "add_generation_prompt": add_generation_prompt}
        variables = [{**own, **user_text.marked}]
        if user_text.broken is not None:
            variables.append({**own, **user_text.broken})
        rendered = await self._runner.render(variables)
        encoded: Rendered = await self._in_thread(self._encoded, rendered, user_text)
        return encoded

    def _user_text(self, values: Mapping[str, Any]) -> UserText:
        user_text = UserText(values, self._structure)
        for tag in self._structure.tags:
            if user_text.holds(tag):
                raise _tag_error(tag)
        return user_text

    def _encoded(self, rendered: Sequence[str | None], user_text: UserText) -> Rendered:
        marked = rendered[0]
        assert marked is not None
        if user_text.broken is not None:
            self._check_structure(marked, rendered[1])
        text = user_text.restored(marked)
        if not user_text.has_marks and not self._is_llama2:
            return Rendered(ids=self._backend.encode_template(text), text=text)
        parts = [
            part if isinstance(part, int) else user_text.restored(part)
            for part in self._backend.split_template(marked)
        ]
        if self._is_llama2:
            return Rendered(ids=llama2.encode_turns(self._backend, parts), text=text)
        return Rendered(ids=self._backend.encode_parts(parts), text=text)

    def _check_structure(self, marked: str, broken: str | None) -> None:
        """Refuses where special tokens or tags come of what users wrote, or where it cannot be told
        since the template writes others for the very same texts with breaks in them.
        """
        own = self._structure.found_in(marked)
        if broken is None or own != self._structure.found_in(broken):
            raise _tag_error("text that, with the template's, makes a special token")


def _token_texts(backend: TokenizerBackend, config: TokenizerConfig) -> dict[str, str]:
    """The texts of bos_token and so on: as configured, else the backend's own."""
    texts = {number: text for text, number in backend.special_ids.items()}
    own = {
        "bos_token": backend.bos_id,
        "eos_token": backend.eos_id,
        "unk_token": backend.unknown_id,
        "pad_token": backend.padding_id,
    }
    known = {name: texts[number] for name, number in own.items() if number in texts}
    return {**known, **config.tokens}


def _tag_error(what: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"chat.messages holds {what}, which structures the model's chat template.",
        reason="CHAT_TEMPLATE_TAG",
        metadata={"field": "chat.messages", "value": what, "limit": "no tags of the template"},
    )
