"""What the answers of both endpoints have in common, as chunks of a stream and as one object.

Chunks are put together from bytes that are made once for a stream: they are the hot path.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.events import Accepted, FinishReason, Token, Usage
from gateway.openai.json_text import json_bytes

FINISH_REASONS: Mapping[FinishReason, str] = {
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.CONTEXT_LENGTH: "length",
    FinishReason.TIME_LIMIT: "length",
    FinishReason.CANCELLED: "stop",
    FinishReason.TOOL_CALLS: "tool_calls",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Envelope:
    """What is the same in a whole answer and in every chunk. `created` is in seconds since 1970."""

    request_id: str
    created: int
    model: str
    system_fingerprint: str


@dataclass(kw_only=True, slots=True)
class Choice:
    """One choice of a whole answer, as it grows."""

    texts: list[str] = field(default_factory=list)
    tokens: list[Token] = field(default_factory=list)
    reason: FinishReason = FinishReason.STOP

    @property
    def text(self) -> str:
        """All of its text."""
        return "".join(self.texts)


class AnswerFormat(abc.ABC):
    """One endpoint's shapes around one envelope."""

    id_prefix: str
    whole_object: str
    chunk_object: str

    def __init__(
        self, envelope: Envelope, *, has_usage_chunk: bool = False, has_logprobs: bool = False
    ) -> None:
        self.has_logprobs = has_logprobs
        self._has_usage_chunk = has_usage_chunk
        self._fields: dict[str, Any] = {
            "id": self.id_prefix + envelope.request_id,
            "created": envelope.created,
            "model": envelope.model,
            "system_fingerprint": envelope.system_fingerprint,
        }
        fields = json_bytes({**self._fields, "object": self.chunk_object})
        self._head = b"data: " + fields.removesuffix(b"}") + b',"choices":['
        self._tail = b'],"usage":null}\n\n' if has_usage_chunk else b"]}\n\n"

    @abc.abstractmethod
    def opening(self, index: int, accepted: Accepted) -> bytes:
        """What comes before the first text of a choice."""

    @abc.abstractmethod
    def text(self, index: int, text: str, tokens: Sequence[Token]) -> bytes:
        """The chunk for new text of a choice and the tokens that it is made of."""

    @abc.abstractmethod
    def finish(self, index: int, reason: FinishReason, tokens: Sequence[Token]) -> bytes:
        """The last chunk of a choice, with tokens that made no text."""

    @abc.abstractmethod
    def choice(self, index: int, choice: Choice) -> dict[str, Any]:
        """One choice of a whole answer, after its `opening`."""

    def usage(self, usage: Sequence[Usage]) -> bytes:
        """The chunk after the last choice has finished; nothing where it was not asked for."""
        if not self._has_usage_chunk:
            return b""
        return self._head + b'],"usage":' + json_bytes(_usage_fields(usage)) + b"}\n\n"

    def _chunk(self, index: int, content: bytes, logprobs: Any, reason: bytes) -> bytes:
        """A chunk of one choice; `content` is the member that the endpoints differ in."""
        return b'%b{"index":%d,%b,"logprobs":%b,"finish_reason":%b}%b' % (
            self._head,
            index,
            content,
            b"null" if logprobs is None else json_bytes(logprobs),
            reason,
            self._tail,
        )

    def whole(self, choices: Mapping[int, Choice], usage: Sequence[Usage]) -> dict[str, Any]:
        """The answer that is not streamed."""
        return {
            **self._fields,
            "object": self.whole_object,
            "choices": [self.choice(index, choices[index]) for index in sorted(choices)],
            "usage": _usage_fields(usage),
        }


def _usage_fields(usage: Sequence[Usage]) -> dict[str, Any]:
    """The sum over all prompts of the request."""
    num_prompt = sum(part.num_prompt_tokens for part in usage)
    num_completion = sum(part.num_completion_tokens for part in usage)
    num_cached = sum(part.num_cached_prompt_tokens for part in usage)
    return {
        "prompt_tokens": num_prompt,
        "completion_tokens": num_completion,
        "total_tokens": num_prompt + num_completion,
        "prompt_tokens_details": {"cached_tokens": num_cached},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }
