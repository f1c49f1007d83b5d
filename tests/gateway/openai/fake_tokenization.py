"""A core whose tokens are bytes, and that knows what it was asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.request import Chat
from gateway.tokenization import TokenizedText
from octavo.errors import OctavoError


class FakeTokenization:
    """`error` is raised instead of an answer."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.error: OctavoError | None = None

    async def tokenize(
        self,
        *,
        model: str | None = None,
        text: str | None = None,
        chat: Chat | None = None,
        add_special_tokens: bool | None = None,
        add_generation_prompt: bool = True,
        token_bytes: bool = False,
    ) -> TokenizedText:
        """The bytes of the text, or of the messages' contents joined."""
        self._note(
            model=model,
            chat=chat,
            add_special_tokens=add_special_tokens,
            add_generation_prompt=add_generation_prompt,
        )
        said = text if chat is None else "".join(m.content or "" for m in chat.messages)
        data = (said or "").encode()
        return TokenizedText(
            token_ids=tuple(data),
            token_bytes=tuple(bytes([byte]) for byte in data) if token_bytes else (),
            rendered_text="",
            max_context_tokens=2048,
        )

    async def detokenize(
        self,
        token_ids: Sequence[int],
        *,
        model: str | None = None,
        skip_special_tokens: bool | None = None,
    ) -> str:
        """The text of bytes."""
        self._note(model=model, skip_special_tokens=skip_special_tokens)
        return bytes(token_ids).decode("utf-8", "replace")

    def _note(self, **arguments: Any) -> None:
        self.calls.append(arguments)
        if self.error is not None:
            raise self.error
