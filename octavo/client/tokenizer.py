"""A typed client of one tokenizer service: unary calls, and decoders multiplexed on one stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import grpc.aio

from octavo.client.connection import Backoff, Connection
from octavo.client.decode_stream import Decoder, DecodeStream, PieceSink
from octavo.client.tokenizer_types import (
    DecoderOptions,
    RenderedChat,
    TemplateMessage,
    TokenizerDescription,
)
from octavo.errors import UnavailableError
from octavo.rpc.request_id import request_id_metadata
from octavo.rpc.status import error_from_rpc
from octavo.v1 import tokenizer_pb2 as pb
from octavo.v1 import tokenizer_pb2_grpc

TOKENIZER_SERVICE = "octavo.v1.TokenizerService"
DESCRIBE_TIMEOUT_S = 5.0
CALL_TIMEOUT_S = 30.0
RETRY_DELAY_MS = 500


class TokenizerClient(Connection):
    """One tokenizer service at one address. Calls take `timeout_s`: what remains to the caller."""

    def __init__(self, address: str, *, backoff: Backoff | None = None) -> None:
        super().__init__(address, TOKENIZER_SERVICE, backoff=backoff)
        self.description: TokenizerDescription | None = None
        self._stub: tokenizer_pb2_grpc.TokenizerServiceAsyncStub | None = None
        self._decoding = DecodeStream()

    async def encode(
        self, text: str, *, add_special_tokens: bool = True, timeout_s: float | None = None
    ) -> Sequence[int]:
        """The ids of `text`; special tokens in it are ordinary text."""
        (ids,) = await self.encode_texts(
            [text], add_special_tokens=add_special_tokens, timeout_s=timeout_s
        )
        return ids

    async def encode_texts(
        self,
        texts: Sequence[str],
        *,
        add_special_tokens: bool = True,
        timeout_s: float | None = None,
    ) -> list[tuple[int, ...]]:
        """The ids of each of `texts`, in one call."""
        request = pb.EncodeRequest(texts=texts, add_special_tokens=add_special_tokens)
        answer = await self._answered(self._serving_stub().Encode, request, timeout_s)
        return [tuple(encoding.token_ids) for encoding in answer.encodings]

    async def render_chat(
        self,
        messages: Sequence[TemplateMessage],
        *,
        template_arguments: Mapping[str, Any] | None = None,
        timeout_s: float | None = None,
    ) -> RenderedChat:
        """A conversation through the checkpoint's template, ready for the assistant's answer."""
        request = pb.RenderChatRequest(messages=[_message_to_pb(message) for message in messages])
        if template_arguments is not None:
            request.template_arguments.update(template_arguments)
        answer = await self._answered(self._serving_stub().RenderChat, request, timeout_s)
        return RenderedChat(token_ids=tuple(answer.token_ids), text=answer.text)

    async def decode(
        self,
        token_ids: Sequence[int],
        *,
        skip_special_tokens: bool = True,
        timeout_s: float | None = None,
    ) -> str:
        """The text of `token_ids`."""
        request = _decode_request(token_ids, skip_special_tokens=skip_special_tokens)
        answer = await self._answered(self._serving_stub().Decode, request, timeout_s)
        return str(answer.texts[0].text)

    async def token_bytes(
        self, token_ids: Sequence[int], *, timeout_s: float | None = None
    ) -> Sequence[bytes]:
        """The bytes that each of `token_ids` stands for."""
        request = _decode_request(token_ids, skip_special_tokens=False)
        request.token_bytes = True
        answer = await self._answered(self._serving_stub().Decode, request, timeout_s)
        return tuple(answer.texts[0].token_bytes)

    def open_decoder(self, options: DecoderOptions, sink: PieceSink) -> Decoder:
        """A decoder for one output; raises UnavailableError where the tokenizer does not serve."""
        self._serving_stub()
        return self._decoding.open(options, sink)

    def _serving_stub(self) -> tokenizer_pb2_grpc.TokenizerServiceAsyncStub:
        if self._stub is None or not self.is_ready:
            raise _tokenizer_lost(self.address, "it does not serve")
        return self._stub

    async def _answered(self, method: Any, request: Any, timeout_s: float | None) -> Any:
        timeout_s = CALL_TIMEOUT_S if timeout_s is None else min(timeout_s, CALL_TIMEOUT_S)
        try:
            return await method(
                request, timeout=max(timeout_s, 0.0), metadata=request_id_metadata()
            )
        except grpc.aio.AioRpcError as error:
            raised = error_from_rpc(error)
            if isinstance(raised, UnavailableError):
                raise _tokenizer_lost(self.address, raised.message) from error
            raise raised from error

    async def _describe(self, channel: grpc.aio.Channel) -> None:
        stub = tokenizer_pb2_grpc.TokenizerServiceStub(channel)
        answer = await stub.GetTokenizer(pb.GetTokenizerRequest(), timeout=DESCRIBE_TIMEOUT_S)
        self._stub = stub
        self.description = TokenizerDescription(
            fingerprint=answer.fingerprint,
            vocabulary_size=answer.vocabulary_size,
            has_chat_template=bool(answer.chat_template_hash),
            max_text_bytes=answer.max_text_bytes,
        )

    async def _converse(self, channel: grpc.aio.Channel) -> None:
        await self._decoding.run(tokenizer_pb2_grpc.TokenizerServiceStub(channel).StreamDecode())

    def _lose(self, cause: str) -> None:
        self._stub = None
        self._decoding.fail(_tokenizer_lost(self.address, cause))


def _decode_request(token_ids: Sequence[int], *, skip_special_tokens: bool) -> pb.DecodeRequest:
    return pb.DecodeRequest(
        sequences=[pb.TokenIdList(ids=token_ids)], skip_special_tokens=skip_special_tokens
    )


def _message_to_pb(message: TemplateMessage) -> pb.TemplateMessage:
    return pb.TemplateMessage(role=message.role, content=message.content, name=message.name)


def _tokenizer_lost(address: str, cause: str) -> UnavailableError:
    return UnavailableError(
        f"The tokenizer at {address} was lost: {cause}",
        reason="TOKENIZER_LOST",
        metadata={"tokenizer": address},
        retry_delay_ms=RETRY_DELAY_MS,
    )
