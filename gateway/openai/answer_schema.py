"""What answers hold, for the API's description alone: answers themselves are put together by hand.

A test compares them with what the routes send.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Answer(BaseModel):
    """An object that an answer holds, with these fields and no others."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class Problem(Answer):
    """What is wrong with a request, or went wrong with it."""

    message: str
    """For a person."""
    type: Literal["invalid_request_error", "rate_limit_error", "server_error"]
    """The class of the error."""
    param: str | None
    """The field that is wrong."""
    code: str | None
    """For a program."""


class ErrorAnswer(Answer):
    """An error."""

    error: Problem


class CachedTokens(Answer):
    """Of the prompt's tokens."""

    cached_tokens: int
    """Those that were found in the cache."""


class ReasoningTokens(Answer):
    """Of the generated tokens."""

    reasoning_tokens: int
    """Those of reasoning that is not shown: none."""


class Usage(Answer):
    """Counts over all prompts and outputs of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens
    completion_tokens_details: ReasoningTokens


class ScoredToken(Answer):
    """A token and its log probability."""

    token: str
    """Its text; its bytes in hexadecimal where it holds a part of a character."""
    logprob: float
    """At least -9999.0."""
    bytes: list[int]
    """Its bytes."""


class ChatToken(ScoredToken):
    """A token of a chat, and the likeliest ones in its place."""

    top_logprobs: list[ScoredToken]


class ChatLogprobs(Answer):
    """The tokens of a choice."""

    content: list[ChatToken]
    refusal: None


class AssistantMessage(Answer):
    """What the model said."""

    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(Answer):
    """One output."""

    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length"]


class ChatCompletion(Answer):
    """A whole answer to a conversation."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: Usage


class CompletionTokens(Answer):
    """The tokens of a choice, in lists of equal length."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(Answer):
    """One output."""

    index: int
    text: str
    logprobs: CompletionTokens | None
    finish_reason: Literal["stop", "length"]


class Completion(Answer):
    """A whole answer to a text."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: Usage


class Model(Answer):
    """A model that is served."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    max_model_len: int
    """Tokens that prompt and output may have together."""
    vocabulary_size: int
    """How many token ids it knows; 0 is the first."""


class ModelList(Answer):
    """All models."""

    object: Literal["list"]
    data: list[Model]


class Tokens(Answer):
    """The ids of a text or of a conversation."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None
    """The text of each token, where asked for."""


class Text(Answer):
    """The text of ids."""

    prompt: str


class Health(Answer):
    """A request can be served now."""

    status: Literal["ok"]
