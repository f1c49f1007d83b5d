"""The body of /v1/chat/completions, and the request that it becomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag

from gateway.accepted_fields import ACCEPTED
from gateway.openai.body import Neutral, StrictModel
from gateway.openai.errors import ApiError
from gateway.openai.generation_body import UNSUPPORTED, GenerationBody
from gateway.request import Chat, GenerationRequest, Message, OutputOptions, ToolCall
from gateway.validation import MAX_MESSAGES


class Part(StrictModel):
    """One part of a message's content."""

    model_config = ConfigDict(json_schema_extra={"required": ["type", "text"]})

    type: str = Field(json_schema_extra={"enum": ["text"]})
    """Only text parts are taken."""
    text: str | None = None
    """The text."""


def _kind_of_content(value: Any) -> str:
    return "<parts>" if isinstance(value, list) else "<text>"


Content = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[list[Part], Field(fail_fast=True), Tag("<parts>")],
    Discriminator(_kind_of_content),
]


class FunctionCall(StrictModel):
    """What a tool call calls; arguments are JSON text."""

    name: str | None = None
    arguments: str | None = None


class ToolCallBody(StrictModel):
    """A call that an assistant message made."""

    id: str | None = None
    function: FunctionCall = FunctionCall()


Role = Literal["system", "developer", "user", "assistant", "tool", "function"]


class MessageBody(StrictModel):
    """One message."""

    model_config = ConfigDict(json_schema_extra={"required": ["role", "content"]})

    role: Role
    """Who speaks; developer is system. What of the others a conversation may have, and in which
    order, the model's chat template decides.
    """
    content: Content | None = None
    """A text, or a list of text parts."""
    name: str | None = None
    """The participant's name, where the template makes a difference."""
    tool_calls: Annotated[list[ToolCallBody], Field(fail_fast=True)] = Field(
        default_factory=list, json_schema_extra={"maxItems": 0}
    )
    """Not supported."""
    tool_call_id: str | None = Field(None, json_schema_extra={"enum": [None]})
    """Not supported."""


Messages = Annotated[
    list[MessageBody],
    Field(fail_fast=True, max_length=MAX_MESSAGES, json_schema_extra={"minItems": 1}),
]


class ChatBody(GenerationBody):
    """A conversation to go on with."""

    unsupported: ClassVar[Neutral] = {
        **UNSUPPORTED,
        "echo": (False,),
        "tools": ([],),
        "tool_choice": ("none", "auto"),
        "parallel_tool_calls": (True, False),
        "functions": ([],),
        "function_call": ("none", "auto"),
        "response_format": ({"type": "text"},),
        "modalities": (["text"], []),
        "audio": (),
        "prediction": (),
        "web_search_options": (),
    }

    limited_as: ClassVar[Mapping[str, str]] = {"max_completion_tokens": "stopping.max_tokens"}

    messages: Messages
    """The messages, oldest first."""
    max_completion_tokens: int | None = None
    """The newer name of max_tokens, which it wins over."""
    logprobs: bool | None = None
    """Whether the log probability of each token is sent."""
    top_logprobs: int | None = None
    """How many of the likeliest tokens are sent at each position, with logprobs."""
    chat_template_kwargs: dict[str, Any] | None = None
    """Extra variables of the chat template."""

    @property
    def field_names(self) -> dict[str, str]:
        """The names that errors use where the body had a choice."""
        if self.max_completion_tokens is None:
            return {}
        return {"stopping.max_tokens": "max_completion_tokens"}

    def output(self) -> OutputOptions:
        """Text, with log probabilities where asked for."""
        return OutputOptions(logprobs=self.logprobs or None, top_logprobs=self.top_logprobs or None)

    def to_request(self, *, request_id: str, arrived_at: float) -> GenerationRequest:
        """The request; `max_completion_tokens` wins over its older name, which is checked too."""
        newer = self.max_completion_tokens
        if newer is not None and self.max_tokens is not None:
            ACCEPTED["stopping.max_tokens"]("max_tokens", self.max_tokens)
        return GenerationRequest(
            request_id=request_id,
            arrived_at=arrived_at,
            model=self.model,
            chat=to_chat(self.messages, self.chat_template_kwargs),
            sampling=self.sampling(),
            stopping=self.stopping(self.max_tokens if newer is None else newer),
            output=self.output(),
            priority=self.priority,
            cache_salt=self.cache_salt,
            sent_at_once=not self.stream,
        )


def to_chat(messages: Sequence[MessageBody], template_arguments: dict[str, Any] | None) -> Chat:
    """The conversation of a body."""
    return Chat(
        messages=[_message(index, body) for index, body in enumerate(messages)],
        template_arguments=template_arguments,
    )


def _message(index: int, body: MessageBody) -> Message:
    """`developer` is the newer name of `system`; the templates of checkpoints know the older."""
    content = body.content
    return Message(
        role="system" if body.role == "developer" else body.role,
        content=_joined(index, content) if isinstance(content, list) else content,
        name=body.name,
        tool_calls=[
            ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments)
            for call in body.tool_calls
        ],
        tool_call_id=body.tool_call_id,
    )


def _joined(index: int, parts: Sequence[Part]) -> str:
    """The text of all parts, with nothing between them."""
    texts = []
    for place, part in enumerate(parts):
        path = f"messages[{index}].content[{place}]"
        if part.type != "text":
            message = f'{path} is of type "{part.type[:60]}"; this model takes "text" only.'
            raise ApiError(400, message, param=path, code="unsupported_content_part")
        if part.text is None:
            param = f"{path}.text"
            raise ApiError(400, f"{param} is required.", param=param, code="missing_required")
        texts.append(part.text)
    return "".join(texts)
