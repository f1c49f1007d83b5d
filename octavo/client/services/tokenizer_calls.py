"""The calls of a tokenizer service with types: whether one process answers or any of several."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Any

from octavo.client.services.tokenizer_types import RenderedChat, TemplateMessage
from octavo.v1 import tokenizer_pb2 as pb


class TokenizerCalls(abc.ABC):
    """Calls take `timeout_s`: what remains to the caller. They raise OctavoError."""

    @abc.abstractmethod
    async def call(self, method: str, request: Any, timeout_s: float | None) -> Any:
        """The answer of the service's method of that name."""

    async def encode(
        self, text: str, *, add_special_tokens: bool = True, timeout_s: float | None = None
    ) -> Sequence[int]:
        """The ids of `text`; special tokens in it are ordinary text."""
        request = pb.EncodeRequest(texts=[text], add_special_tokens=add_special_tokens)
        answer = await self.call("Encode", request, timeout_s)
        ids: Sequence[int] = answer.encodings[0].token_ids
        return ids  # as they are: they may be a million, of a text that is then refused

    async def encode_texts(
        self,
        texts: Sequence[str],
        *,
        add_special_tokens: bool = True,
        timeout_s: float | None = None,
    ) -> list[tuple[int, ...]]:
        """The ids of each of `texts`, in one call."""
        request = pb.EncodeRequest(texts=texts, add_special_tokens=add_special_tokens)
        answer = await self.call("Encode", request, timeout_s)
        return [tuple(encoding.token_ids) for encoding in answer.encodings]

    async def render_chat(
        self,
        messages: Sequence[TemplateMessage],
        *,
        template_arguments: Mapping[str, Any] | None = None,
        add_generation_prompt: bool = True,
        timeout_s: float | None = None,
    ) -> RenderedChat:
        """A conversation through the checkpoint's template, by default with the beginning of the
        assistant's answer.
        """
        request = pb.RenderChatRequest(
            messages=[_message_to_pb(message) for message in messages],
            add_generation_prompt=add_generation_prompt,
        )
        if template_arguments is not None:
            request.template_arguments.update(template_arguments)
        answer = await self.call("RenderChat", request, timeout_s)
        return RenderedChat(token_ids=tuple(answer.token_ids), text=answer.text)

    async def decode(
        self,
        token_ids: Sequence[int],
        *,
        skip_special_tokens: bool = True,
        timeout_s: float | None = None,
    ) -> str:
        """The text of `token_ids`."""
        request = _decode_request(token_ids, skip_special_tokens=skip_special_tokens)
        answer = await self.call("Decode", request, timeout_s)
        return str(answer.texts[0].text)

    async def token_bytes(
        self, token_ids: Sequence[int], *, timeout_s: float | None = None
    ) -> Sequence[bytes]:
        """The bytes that each of `token_ids` stands for."""
        request = _decode_request(token_ids, skip_special_tokens=False)
        request.token_bytes = True
        answer = await self.call("Decode", request, timeout_s)
        return tuple(answer.texts[0].token_bytes)


def _decode_request(token_ids: Sequence[int], *, skip_special_tokens: bool) -> pb.DecodeRequest:
    return pb.DecodeRequest(
        sequences=[pb.TokenIdList(ids=token_ids)], skip_special_tokens=skip_special_tokens
    )


def _message_to_pb(message: TemplateMessage) -> pb.TemplateMessage:
    return pb.TemplateMessage(role=message.role, content=message.content, name=message.name)
