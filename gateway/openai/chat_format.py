"""The shapes of /v1/chat/completions.

For each choice: role chunk · content chunks · finish chunk. Then the usage chunk where asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.events import Accepted, FinishReason, Token
from gateway.openai.answer_format import FINISH_REASONS, AnswerFormat, Choice
from gateway.openai.json_text import json_bytes
from gateway.openai.logprobs import chat_logprobs


class ChatFormat(AnswerFormat):
    """Answers as messages of the assistant."""

    id_prefix = "chatcmpl-"
    whole_object = "chat.completion"
    chunk_object = "chat.completion.chunk"

    def opening(self, index: int, accepted: Accepted) -> bytes:
        """The role, with empty content: the only empty content of a stream."""
        return self._chunk(index, b'"delta":{"role":"assistant","content":""}', None, b"null")

    def text(self, index: int, text: str, tokens: Sequence[Token]) -> bytes:
        """A content delta."""
        delta = b'"delta":{"content":%b}' % json_bytes(text)
        return self._chunk(index, delta, self._logprobs(tokens), b"null")

    def finish(self, index: int, reason: FinishReason, tokens: Sequence[Token]) -> bytes:
        """An empty delta with the reason."""
        logprobs = self._logprobs(tokens) if tokens else None
        return self._chunk(index, b'"delta":{}', logprobs, json_bytes(FINISH_REASONS[reason]))

    def choice(self, index: int, choice: Choice) -> dict[str, Any]:
        """The assistant's message."""
        return {
            "index": index,
            "message": {"role": "assistant", "content": choice.text, "refusal": None},
            "logprobs": self._logprobs(choice.tokens),
            "finish_reason": FINISH_REASONS[choice.reason],
        }

    def _logprobs(self, tokens: Sequence[Token]) -> dict[str, Any] | None:
        return chat_logprobs(tokens) if self.has_logprobs else None
