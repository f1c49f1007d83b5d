"""From what the client wrote to token ids: the tokenizer renders and encodes."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.request import Chat, GenerationRequest
from octavo.client.services.tokenizer_calls import TokenizerCalls
from octavo.client.services.tokenizer_types import RenderedChat, TemplateMessage


async def prompt_token_ids(
    request: GenerationRequest, tokenizer: TokenizerCalls, *, timeout_s: float | None
) -> Sequence[int]:
    """The ids of the request's input; ids that were given are taken as they are."""
    if request.token_ids is not None:
        return request.token_ids
    if request.prompt is not None:
        return await tokenizer.encode(request.prompt, timeout_s=timeout_s)
    assert request.chat is not None
    return (await render(request.chat, tokenizer, timeout_s=timeout_s)).token_ids


async def render(
    chat: Chat,
    tokenizer: TokenizerCalls,
    *,
    add_generation_prompt: bool = True,
    timeout_s: float | None,
) -> RenderedChat:
    """A conversation through the checkpoint's chat template."""
    messages = [
        TemplateMessage(role=message.role, content=message.content, name=message.name)
        for message in chat.messages
    ]
    return await tokenizer.render_chat(
        messages,
        template_arguments=chat.template_arguments,
        add_generation_prompt=add_generation_prompt,
        timeout_s=timeout_s,
    )
