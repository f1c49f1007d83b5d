"""Tokenize and Detokenize, shared by both doors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.accepted_fields import ACCEPTED
from gateway.field_checks import text as text_check
from gateway.model_card import ModelCard
from gateway.model_checks import check_chat, check_token_ids
from gateway.prompt import render
from gateway.request import Chat
from gateway.request_record import current_record
from gateway.routing import Routing
from gateway.validation import check_chat_fields
from octavo.client.services.replicated_tokenizer import ReplicatedTokenizer
from octavo.errors import InWords, invalid_field

MAX_DETOKENIZE_TOKENS = 2**17


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizedText:
    """Token ids; their bytes where asked for; the rendered text of a conversation."""

    token_ids: Sequence[int]
    token_bytes: Sequence[bytes]
    rendered_text: str
    max_context_tokens: int


class Tokenization:
    """Between text and ids, for one request at a time."""

    def __init__(self, *, routing: Routing, max_prompt_bytes: int) -> None:
        self._routing = routing
        self._max_prompt_bytes = max_prompt_bytes

    async def tokenize(
        self,
        *,
        model: str | None = None,
        text: str | None = None,
        chat: Chat | None = None,
        add_special_tokens: bool | None = None,
        add_generation_prompt: bool = True,
        token_bytes: bool = False,
        timeout_s: float | None = None,
    ) -> TokenizedText:
        """The ids of a text or of a conversation: exactly one of them is given."""
        self._check_input(text, chat)
        card, tokenizer = self._pair(model)
        check_chat(chat, card)
        rendered_text = ""
        if chat is not None:
            rendered = await render(
                chat,
                tokenizer,
                add_generation_prompt=add_generation_prompt,
                timeout_s=timeout_s,
            )
            ids, rendered_text = rendered.token_ids, rendered.text
        else:
            assert text is not None
            with_special = add_special_tokens is not False
            ids = await tokenizer.encode(text, add_special_tokens=with_special, timeout_s=timeout_s)
        bytes_ = await tokenizer.token_bytes(ids, timeout_s=timeout_s) if token_bytes else ()
        return TokenizedText(
            token_ids=tuple(ids),
            token_bytes=bytes_,
            rendered_text=rendered_text,
            max_context_tokens=card.max_context_tokens,
        )

    async def detokenize(
        self,
        token_ids: Sequence[int],
        *,
        model: str | None = None,
        skip_special_tokens: bool | None = None,
        timeout_s: float | None = None,
    ) -> str:
        """The text of ids."""
        if len(token_ids) > MAX_DETOKENIZE_TOKENS:
            limit = f"at most {MAX_DETOKENIZE_TOKENS} ids"
            raise invalid_field("token_ids", InWords(f"{len(token_ids)} ids"), limit)
        card, tokenizer = self._pair(model)
        check_token_ids("token_ids", token_ids, card)
        return await tokenizer.decode(
            token_ids, skip_special_tokens=skip_special_tokens is not False, timeout_s=timeout_s
        )

    def _pair(self, model: str | None) -> tuple[ModelCard, ReplicatedTokenizer]:
        if model is not None:
            ACCEPTED["model"]("model", model)
        card = self._routing.model(model)
        current_record().model = card.name
        return card, self._routing.tokenizer(card)

    def _check_input(self, text: str | None, chat: Chat | None) -> None:
        if (text is None) == (chat is None):
            given = "absent" if text is None else "text and chat"
            raise invalid_field("input", InWords(given), "exactly one of text and chat")
        if text is not None:
            text_check(0, self._max_prompt_bytes)("text", text)
        if chat is not None:
            check_chat_fields(chat, max_prompt_bytes=self._max_prompt_bytes)
