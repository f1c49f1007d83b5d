"""What every handler is wrapped in: errors become statuses, bytes that are no message are refused,
and who observes the calls sees both.

grpc.aio answers an exception of a handler, and a message that cannot be decoded, with UNKNOWN and
the exception's text. Here the first becomes the status that the error stands for (or INTERNAL,
without its text) and the second INVALID_ARGUMENT.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Any, cast

import grpc
import grpc.aio
import structlog
from google.protobuf.message import DecodeError

from octavo.errors import InternalError, InvalidArgumentError, OctavoError
from octavo.rpc.status import abort

log = structlog.get_logger()

if TYPE_CHECKING:  # subscripts that exist in the stubs only
    from octavo.rpc.call_log import CallObserver

    Context = grpc.aio.ServicerContext[Any, Any]
    Handler = grpc.RpcMethodHandler[Any, Any]


class Undecodable:
    """Stands for a message that could not be decoded, until a handler asks for it."""


class HandlerInterceptor(grpc.aio.ServerInterceptor):
    """Wraps each handler of a server; the calls of `services` are observed."""

    def __init__(self, services: Collection[str], observe: CallObserver) -> None:
        self._services = frozenset(services)
        self._observe = observe

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Finds the handler and wraps it; a method that does not exist has none."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        service = method.rpartition("/")[0].removeprefix("/")
        observe = self._observe if service in self._services else _unobserved
        return _Wrap(method, observe).handler(handler)


class _Wrap:
    """Wraps the handler of one method."""

    def __init__(self, method: str, observe: CallObserver) -> None:
        self._method = method
        self._observe = observe

    def handler(self, handler: Handler) -> Handler:
        decode = _safe_decoder(handler.request_deserializer)
        encode = handler.response_serializer
        if handler.request_streaming and handler.response_streaming:
            behavior = self._stream(cast(Any, handler).stream_stream, _checked_all)
            return grpc.stream_stream_rpc_method_handler(behavior, decode, encode)
        if handler.request_streaming:
            behavior = self._unary(cast(Any, handler).stream_unary, _checked_all)
            return grpc.stream_unary_rpc_method_handler(behavior, decode, encode)
        if handler.response_streaming:
            behavior = self._stream(cast(Any, handler).unary_stream, _checked)
            return grpc.unary_stream_rpc_method_handler(behavior, decode, encode)
        behavior = self._unary(cast(Any, handler).unary_unary, _checked)
        return grpc.unary_unary_rpc_method_handler(behavior, decode, encode)

    def _unary(self, call: Any, check: Callable[[Any], Any]) -> Any:
        async def unary(request: Any, context: Context) -> Any:
            try:
                with self._observe(self._method, context):
                    return await call(check(request), context)
            except Exception as error:  # noqa: BLE001 - the one place that answers for all
                await _end(context, error, self._method)

        return unary

    def _stream(self, call: Any, check: Callable[[Any], Any]) -> Any:
        async def stream(request: Any, context: Context) -> AsyncGenerator[Any, None]:
            try:
                # The handler's generator is closed here and now when the client is gone: its
                # `finally` is what frees a request.
                with self._observe(self._method, context):
                    async with aclosing(call(check(request), context)) as responses:
                        async for response in responses:
                            yield response
            except Exception as error:  # noqa: BLE001 - the one place that answers for all
                await _end(context, error, self._method)

        return stream if inspect.isasyncgenfunction(call) else self._unary(call, check)


@contextmanager
def _unobserved(_: str, __: Context) -> Iterator[None]:
    yield


def _safe_decoder(decode: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    if decode is None:
        return None

    def safe_decode(data: bytes) -> Any:
        try:
            return decode(data)
        except DecodeError:
            return Undecodable()

    return safe_decode


def _checked(request: Any) -> Any:
    if isinstance(request, Undecodable):
        raise InvalidArgumentError(
            "The message cannot be decoded as the request of this method.",
            reason="UNDECODABLE_MESSAGE",
        )
    return request


async def _checked_all(requests: AsyncIterator[Any]) -> AsyncGenerator[Any, None]:
    async for request in requests:
        yield _checked(request)


async def _end(context: Context, error: Exception, method: str) -> None:
    if isinstance(error, OctavoError):
        await abort(context, error)
    if isinstance(
        error, grpc.aio.BaseError
    ):  # the handler aborted by itself, or its own call failed
        raise error
    log.error("handler failed", method=method, exc_info=error)
    await abort(context, InternalError("The server failed; its log holds the cause."))
