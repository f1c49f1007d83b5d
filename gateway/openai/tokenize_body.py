"""The bodies of /v1/tokenize and /v1/detokenize, in the shapes of vLLM's."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from gateway.openai.body import Body, Neutral
from gateway.openai.chat_body import Messages, to_chat
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
    """The model's name; absent: the only one served."""
    prompt: str | None = None
    """The text."""
    messages: Messages | None = None
    """The conversation."""
    add_special_tokens: bool | None = None
    """Whether the ids that the model puts around a text are added; absent: true."""
    add_generation_prompt: bool = True
    """Whether the beginning of the assistant's answer is added to a conversation."""
    chat_template_kwargs: dict[str, Any] | None = None
    """Extra variables of the chat template."""
    return_token_strs: bool = False
    """Whether the text of each token is sent."""

    def chat(self) -> Chat | None:
        """The conversation, where there is one."""
        if self.prompt is None and self.messages is None:
            raise invalid("prompt", None, "given, or else messages")
        if self.prompt is not None and self.messages is not None:
            raise invalid("prompt", self.prompt, "absent where messages are given")
        return None if self.messages is None else to_chat(self.messages, self.chat_template_kwargs)


class DetokenizeBody(Body):
    """Token ids to turn into text."""

    model: str | None = None
    """The model's name; absent: the only one served."""
    tokens: Annotated[list[TokenId], Field(fail_fast=True)]
    """The ids."""
    skip_special_tokens: bool = False
    """Whether special tokens are left out of the text."""
