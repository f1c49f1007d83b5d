"""A typed client of one tokenizer service: unary calls, and decoders multiplexed on one stream."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio
import structlog

from octavo.client.services.connection import Backoff, Connection
from octavo.client.services.decode_stream import Decoder, DecoderSink, DecodeStream
from octavo.client.services.tokenizer_calls import TokenizerCalls
from octavo.client.services.tokenizer_types import (
    NOTHING_DECODED,
    DecodedSoFar,
    DecoderOptions,
    TokenizerDescription,
)
from octavo.errors import UnavailableError
from octavo.rpc.request_id import request_id_metadata
from octavo.rpc.status import error_from_rpc
from octavo.v1 import tokenizer_pb2 as pb
from octavo.v1 import tokenizer_pb2_grpc

log = structlog.get_logger()

TOKENIZER_SERVICE = "octavo.v1.TokenizerService"
DESCRIBE_TIMEOUT_S = 5.0
CALL_TIMEOUT_S = 30.0
RETRY_DELAY_MS = 500


class TokenizerClient(Connection, TokenizerCalls):
    """One tokenizer service at one address."""

    def __init__(self, address: str, *, backoff: Backoff | None = None) -> None:
        super().__init__(address, TOKENIZER_SERVICE, backoff=backoff)
        self.description: TokenizerDescription | None = None
        self._stub: tokenizer_pb2_grpc.TokenizerServiceAsyncStub | None = None
        self._num_calls = 0
        self._decoding = DecodeStream()

    @property
    def num_open(self) -> int:
        """Counts the decoders and calls that this client has open."""
        return self._decoding.num_open + self._num_calls

    @property
    def is_idle(self) -> bool:
        """Whether no decoder and no call is open."""
        return self.num_open == 0

    def open_decoder(
        self, options: DecoderOptions, sink: DecoderSink, so_far: DecodedSoFar = NOTHING_DECODED
    ) -> Decoder:
        """A decoder for one output; raises UnavailableError where the tokenizer does not serve."""
        self._serving_stub()
        return self._decoding.open(options, sink, so_far)

    async def call(self, method: str, request: Any, timeout_s: float | None) -> Any:
        """See TokenizerCalls; raises UnavailableError where the tokenizer does not serve."""
        bound = getattr(self._serving_stub(), method)
        timeout_s = CALL_TIMEOUT_S if timeout_s is None else min(timeout_s, CALL_TIMEOUT_S)
        self._num_calls += 1
        try:
            return await bound(request, timeout=max(timeout_s, 0.0), metadata=request_id_metadata())
        except grpc.aio.AioRpcError as error:
            raised = error_from_rpc(error)
            if isinstance(raised, UnavailableError):
                raise _tokenizer_lost() from error
            raise raised from error
        except asyncio.CancelledError:
            if _is_cancelled():
                raise
            raise _tokenizer_lost() from None
        finally:
            self._num_calls -= 1

    def _serving_stub(self) -> tokenizer_pb2_grpc.TokenizerServiceAsyncStub:
        if self._stub is None or not self.is_ready:
            raise _tokenizer_lost()
        return self._stub

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

    def _hear_of_drain(self) -> None:
        self._decoding.open_now()

    def _lose(self, cause: str) -> None:
        self._stub = None
        self._decoding.lose(_tokenizer_lost())


def _is_cancelled() -> bool:
    """Whether the caller is: a call whose channel is closed raises CancelledError just the same."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _tokenizer_lost() -> UnavailableError:
    """What clients hear; where the tokenizer is and what the network said is for our log."""
    return UnavailableError(
        "The tokenizer was lost.", reason="TOKENIZER_LOST", retry_delay_ms=RETRY_DELAY_MS
    )
