"""/v1/tokenize and /v1/detokenize."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from starlette.requests import Request
from starlette.responses import Response

from gateway.openai.body import BodyReader
from gateway.openai.core import Tokenization
from gateway.openai.errors import api_error
from gateway.openai.json_text import json_answer
from gateway.openai.logprobs import token_text
from gateway.openai.tokenize_body import DetokenizeBody, TokenizeBody
from gateway.tokenization import MAX_DETOKENIZE_TOKENS
from octavo.errors import OctavoError

# What the core calls these fields; both routes have other names than those that generate.
_NAMES = {"text": "prompt", "token_ids": "tokens"}


class TokenizeEndpoints:
    """The functions of the routes that turn text into ids and back."""

    def __init__(self, tokenization: Tokenization, bodies: BodyReader) -> None:
        self._tokenization = tokenization
        self._bodies = bodies

    async def tokenize(self, request: Request) -> Response:
        """POST /v1/tokenize."""
        body = await self._bodies.read(request, TokenizeBody)
        with _named(_NAMES):
            answer = await self._tokenization.tokenize(
                model=body.model,
                text=body.prompt,
                chat=body.chat(),
                add_special_tokens=body.add_special_tokens,
                add_generation_prompt=body.add_generation_prompt,
                token_bytes=body.return_token_strs,
            )
        texts = [token_text(token_bytes) for token_bytes in answer.token_bytes]
        return json_answer(
            {
                "count": len(answer.token_ids),
                "max_model_len": answer.max_context_tokens,
                "tokens": list(answer.token_ids),
                "token_strs": texts if body.return_token_strs else None,
            }
        )

    async def detokenize(self, request: Request) -> Response:
        """POST /v1/detokenize; special tokens are written out unless they are to be left out."""
        longest = MAX_DETOKENIZE_TOKENS
        body = await self._bodies.read(request, DetokenizeBody, longest_list=longest)
        with _named(_NAMES):
            text = await self._tokenization.detokenize(
                body.tokens, model=body.model, skip_special_tokens=body.skip_special_tokens
            )
        return json_answer({"prompt": text})


@contextmanager
def _named(names: Mapping[str, str]) -> Iterator[None]:
    """An error of the core speaks of fields as the client does."""
    try:
        yield
    except OctavoError as error:
        raise api_error(error, names) from error
