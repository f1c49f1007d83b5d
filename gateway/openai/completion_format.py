"""The shapes of /v1/completions; a chunk has the shape of a whole answer.

For each choice: text chunks · finish chunk. Then the usage chunk where asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.events import Accepted, FinishReason, Token
from gateway.openai.answer_format import FINISH_REASONS, AnswerFormat, Choice, Envelope
from gateway.openai.json_text import json_bytes
from gateway.openai.logprobs import CompletionLogprobs


class CompletionFormat(AnswerFormat):
    """Answers as plain text."""

    id_prefix = "cmpl-"
    whole_object = "text_completion"
    chunk_object = "text_completion"

    def __init__(
        self, envelope: Envelope, *, has_usage_chunk: bool = False, has_logprobs: bool = False
    ) -> None:
        super().__init__(envelope, has_usage_chunk=has_usage_chunk, has_logprobs=has_logprobs)
        self._logprobs: dict[int, CompletionLogprobs] = {}

    def opening(self, index: int, accepted: Accepted) -> bytes:
        """Nothing: there is no role. An echoed prompt comes as text."""
        if self.has_logprobs:
            self._logprobs[index] = CompletionLogprobs(
                accepted.prompt_tokens, accepted.num_echoed_characters
            )
        return b""

    def text(self, index: int, text: str, tokens: Sequence[Token]) -> bytes:
        """A text delta."""
        return self._text_chunk(index, text, tokens, b"null")

    def finish(self, index: int, reason: FinishReason, tokens: Sequence[Token]) -> bytes:
        """Empty text with the reason."""
        return self._text_chunk(index, "", tokens, json_bytes(FINISH_REASONS[reason]))

    def choice(self, index: int, choice: Choice) -> dict[str, Any]:
        """The text."""
        return {
            "index": index,
            "text": choice.text,
            "logprobs": self._logprob_fields(index, choice.tokens),
            "finish_reason": FINISH_REASONS[choice.reason],
        }

    def _text_chunk(self, index: int, text: str, tokens: Sequence[Token], reason: bytes) -> bytes:
        content = b'"text":%b' % json_bytes(text)
        return self._chunk(index, content, self._logprob_fields(index, tokens), reason)

    def _logprob_fields(self, index: int, tokens: Sequence[Token]) -> dict[str, Any] | None:
        return self._logprobs[index].fields(tokens) if self.has_logprobs else None
