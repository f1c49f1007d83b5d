"""The shapes of both endpoints' answers: chunks of a stream as bytes, a whole answer as an object.

    chat:       role chunk · content chunks · finish chunk, per choice · usage chunk where asked
    completion: text chunks · finish chunk, per choice · usage chunk where asked

Chunks are put together from bytes that are made once for a stream: they are the hot path.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.events import FinishReason, Usage
from gateway.openai.json_text import json_bytes

_FINISH_REASONS: Mapping[FinishReason, str] = {
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
    reason: FinishReason = FinishReason.STOP


class AnswerFormat(abc.ABC):
    """One endpoint's shapes around one envelope."""

    id_prefix: str
    whole_object: str
    chunk_object: str

    def __init__(self, envelope: Envelope, *, has_usage_chunk: bool) -> None:
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
    def opening(self, index: int) -> bytes:
        """What comes before the first text of a choice."""

    @abc.abstractmethod
    def text(self, index: int, text: str) -> bytes:
        """The chunk for new text of a choice."""

    @abc.abstractmethod
    def finish(self, index: int, reason: FinishReason) -> bytes:
        """The last chunk of a choice."""

    @abc.abstractmethod
    def choice(self, index: int, choice: Choice) -> dict[str, Any]:
        """One choice of a whole answer."""

    def usage(self, usage: Sequence[Usage]) -> bytes:
        """The chunk after the last choice has finished; nothing where it was not asked for."""
        if not self._has_usage_chunk:
            return b""
        return self._head + b'],"usage":' + json_bytes(_usage_fields(usage)) + b"}\n\n"

    def whole(self, choices: Mapping[int, Choice], usage: Sequence[Usage]) -> dict[str, Any]:
        """The answer that is not streamed."""
        return {
            **self._fields,
            "object": self.whole_object,
            "choices": [self.choice(index, choices[index]) for index in sorted(choices)],
            "usage": _usage_fields(usage),
        }


class ChatFormat(AnswerFormat):
    """/v1/chat/completions."""

    id_prefix = "chatcmpl-"
    whole_object = "chat.completion"
    chunk_object = "chat.completion.chunk"

    def opening(self, index: int) -> bytes:
        """The role, with empty content: the only empty content of a stream."""
        return self._chunk(index, b'{"role":"assistant","content":""}', b"null")

    def text(self, index: int, text: str) -> bytes:
        """A content delta."""
        return self._chunk(index, b'{"content":' + json_bytes(text) + b"}", b"null")

    def finish(self, index: int, reason: FinishReason) -> bytes:
        """An empty delta with the reason."""
        return self._chunk(index, b"{}", json_bytes(_FINISH_REASONS[reason]))

    def choice(self, index: int, choice: Choice) -> dict[str, Any]:
        """The assistant's message."""
        content = "".join(choice.texts)
        return {
            "index": index,
            "message": {"role": "assistant", "content": content, "refusal": None},
            "logprobs": None,
            "finish_reason": _FINISH_REASONS[choice.reason],
        }

    def _chunk(self, index: int, delta: bytes, reason: bytes) -> bytes:
        return b'%b{"index":%d,"delta":%b,"logprobs":null,"finish_reason":%b}%b' % (
            self._head,
            index,
            delta,
            reason,
            self._tail,
        )


class CompletionFormat(AnswerFormat):
    """/v1/completions; a chunk has the shape of a whole answer."""

    id_prefix = "cmpl-"
    whole_object = "text_completion"
    chunk_object = "text_completion"

    def opening(self, index: int) -> bytes:
        """Nothing: there is no role."""
        return b""

    def text(self, index: int, text: str) -> bytes:
        """A text delta."""
        return self._chunk(index, text, b"null")

    def finish(self, index: int, reason: FinishReason) -> bytes:
        """Empty text with the reason."""
        return self._chunk(index, "", json_bytes(_FINISH_REASONS[reason]))

    def choice(self, index: int, choice: Choice) -> dict[str, Any]:
        """The text."""
        return {
            "index": index,
            "text": "".join(choice.texts),
            "logprobs": None,
            "finish_reason": _FINISH_REASONS[choice.reason],
        }

    def _chunk(self, index: int, text: str, reason: bytes) -> bytes:
        return b'%b{"index":%d,"text":%b,"logprobs":null,"finish_reason":%b}%b' % (
            self._head,
            index,
            json_bytes(text),
            reason,
            self._tail,
        )


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
