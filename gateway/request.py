"""A generation request inside the gateway: what every door (gRPC, HTTP) converts to.

None means absent: the default of the model or of the server. Field names are those of
GenerateRequest, so that an error can name the path that the client wrote.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolCall:
    """A call that an assistant message made; arguments are JSON text."""

    id: str | None = None
    name: str | None = None
    arguments: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One message of a conversation."""

    role: str | None = None
    content: str | None = None
    name: str | None = None
    tool_calls: Sequence[ToolCall] = ()
    tool_call_id: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Tool:
    """A function that the model may call; parameters_schema is JSON Schema text."""

    name: str | None = None
    description: str | None = None
    parameters_schema: str | None = None
    strict: bool | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolChoice:
    """mode: none, auto, required or named."""

    mode: str | None = None
    name: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Chat:
    """A conversation, rendered by the checkpoint's chat template."""

    messages: Sequence[Message]
    tools: Sequence[Tool] = ()
    tool_choice: ToolChoice | None = None
    template_arguments: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How the next token is drawn."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    no_repeat_ngram: int | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    bad_words: Sequence[str] = ()
    allowed_token_ids: Sequence[int] = ()
    seed: int | None = None
    n: int | None = None
    forced_token_ids: Sequence[int] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Stopping:
    """When generation ends."""

    max_tokens: int | None = None
    min_tokens: int | None = None
    stop: Sequence[str] = ()
    stop_token_ids: Sequence[int] = ()
    ignore_eos: bool | None = None
    include_stop: bool | None = None
    time_limit_ms: int | None = None
    stop_token_sequences: Sequence[Sequence[int]] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputOptions:
    """What is sent back."""

    text: bool | None = None
    token_ids: bool | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    prompt_logprobs: bool | None = None
    echo: bool | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Constraint:
    """The language that the output is restricted to; kind is the name of the oneof's field."""

    kind: str
    value: Any = None


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerationRequest:
    """One generation. Exactly one of prompt, token_ids and chat is set.

    `deadline_at` is on time.monotonic(): the client's own deadline, None where it has none.
    `arrived_at` likewise: time limits count from it. `sent_at_once`: the answer is one message.
    """

    request_id: str
    arrived_at: float
    model: str | None = None
    prompt: str | None = None
    token_ids: Sequence[int] | None = None
    chat: Chat | None = None
    sampling: Sampling = Sampling()
    stopping: Stopping = Stopping()
    output: OutputOptions = OutputOptions()
    constraint: Constraint | None = None
    priority: int | None = None
    cache_salt: str | None = None
    deadline_at: float | None = None
    sent_at_once: bool = False

    def remaining_s(self) -> float | None:
        """What remains until the deadline, 0 where it has passed, None where there is none."""
        return None if self.deadline_at is None else max(0.0, self.deadline_at - time.monotonic())
