"""octavo.v1.GenerationService."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from gateway.generation import Generation
from gateway.grpc_api.call import Call
from gateway.grpc_api.convert_event import GenerateAnswer, stream_response_to_pb
from gateway.grpc_api.convert_request import chat_from_pb, generation_request_from_pb
from gateway.grpc_api.session import Session
from gateway.grpc_api.writer import STALL_LIMIT_S, Writer
from gateway.request import GenerationRequest
from gateway.request_log import RequestLog
from gateway.tokenization import Tokenization
from octavo.rpc.request_id import new_request_id
from octavo.v1 import generation_pb2 as pb
from octavo.v1 import generation_pb2_grpc

if TYPE_CHECKING:
    from gateway.grpc_api.call import Context


class GenerationService(generation_pb2_grpc.GenerationServiceServicer):
    """Errors are raised; the server's interceptor turns them into statuses."""

    def __init__(
        self,
        generation: Generation,
        tokenization: Tokenization,
        request_log: RequestLog,
        *,
        max_session_requests: int,
        stall_limit_s: float = STALL_LIMIT_S,
    ) -> None:
        self._generation = generation
        self._tokenization = tokenization
        self._request_log = request_log
        self._max_session_requests = max_session_requests
        self._stall_limit_s = stall_limit_s

    async def Generate(self, request: pb.GenerateRequest, context: Context) -> pb.GenerateResponse:
        """Generates everything and answers once."""
        answer = GenerateAnswer()
        asked = _request_of(request, context, sent_at_once=True)
        async with aclosing(self._generation.generate(asked)) as events:
            async for event in events:
                answer.add(event)
        return answer.to_pb()

    async def StreamGenerate(  # type: ignore[override] # the stub also allows generators
        self, request: pb.GenerateRequest, context: Context
    ) -> None:
        """Generates and streams events."""
        writer = Writer(context.write, self._stall_limit_s)
        async with aclosing(self._generation.generate(_request_of(request, context))) as events:
            async for event in events:
                await writer.write(stream_response_to_pb(event))

    async def OpenSession(  # type: ignore[override] # the stub also allows generators
        self, request_iterator: AsyncIterator[pb.OpenSessionRequest], context: Context
    ) -> None:
        """Carries many requests on one stream."""
        session = Session(
            self._generation,
            self._request_log,
            Call.of(context),
            max_requests=self._max_session_requests,
        )
        await session.carry(request_iterator, Writer(context.write, self._stall_limit_s))

    async def Tokenize(self, request: pb.TokenizeRequest, context: Context) -> pb.TokenizeResponse:
        """Turns text into token ids."""
        given = request.WhichOneof("input")
        answer = await self._tokenization.tokenize(
            model=_given(request, "model"),
            text=request.text if given == "text" else None,
            chat=chat_from_pb(request.chat) if given == "chat" else None,
            add_special_tokens=_given(request, "add_special_tokens"),
            token_bytes=request.token_bytes,
            timeout_s=Call.of(context).timeout_s,
        )
        return pb.TokenizeResponse(
            token_ids=answer.token_ids,
            token_bytes=answer.token_bytes,
            rendered_text=answer.rendered_text,
            max_context_tokens=answer.max_context_tokens,
        )

    async def Detokenize(
        self, request: pb.DetokenizeRequest, context: Context
    ) -> pb.DetokenizeResponse:
        """Turns token ids into text."""
        text = await self._tokenization.detokenize(
            request.token_ids,
            model=_given(request, "model"),
            skip_special_tokens=_given(request, "skip_special_tokens"),
            timeout_s=Call.of(context).timeout_s,
        )
        return pb.DetokenizeResponse(text=text)


def _request_of(
    message: pb.GenerateRequest, context: Context, *, sent_at_once: bool = False
) -> GenerationRequest:
    call = Call.of(context)
    own_id = message.request_id if message.HasField("request_id") else call.request_id
    return generation_request_from_pb(
        message,
        request_id=new_request_id() if own_id is None else own_id,
        arrived_at=call.arrived_at,
        deadline_at=call.deadline_at,
        sent_at_once=sent_at_once,
    )


def _given(message: Any, field: str) -> Any:
    return getattr(message, field) if message.HasField(field) else None
