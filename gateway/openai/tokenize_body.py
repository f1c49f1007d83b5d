"""The bodies of /v1/tokenize and /v1/detokenize, in the shapes of vLLM's."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from gateway.openai.body import Body, Neutral
from gateway.openai.chat_body import MessageBody, to_chat
from gateway.openai.completion_body import TokenId
from gateway.openai.errors import invalid
from gateway.request import Chat


class TokenizeBody(Body):
    """A text or a conversation; exactly one of them is given."""

    unsupported: ClassVar[Neutral] = {
        "continue_final_message": (False,),
        "chat_template": (),
        "tools": ([],),
        "mm_processor_kwargs": (),
    }

    model: str | None = None
    prompt: str | None = None
    messages: Annotated[list[MessageBody], Field(fail_fast=True)] | None = None
    add_special_tokens: bool | None = None
    add_generation_prompt: bool = True
    chat_template_kwargs: dict[str, Any] | None = None
    return_token_strs: bool = False

    def chat(self) -> Chat | None:
        """The conversation, where there is one."""
        if self.prompt is None and self.messages is None:
            raise invalid("prompt", None, "given, or else messages")
        if self.prompt is not None and self.messages is not None:
            raise invalid("prompt", self.prompt, "absent where messages are given")
        return None if self.messages is None else to_chat(self.messages, self.chat_template_kwargs)


class DetokenizeBody(Body):
    """Token ids."""

    model: str | None = None
    tokens: Annotated[list[TokenId], Field(fail_fast=True)]
    skip_special_tokens: bool = False
