"""The client of a server, for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import grpc.aio

from octavo.client import calls
from octavo.client.addresses import full_address
from octavo.client.async_session import AsyncSession
from octavo.client.async_stream import AsyncGenerationStream, task_is_cancelled
from octavo.client.defaults import DEFAULT_ADDRESS, DEFAULT_RETRIES, DEFAULT_TIMEOUT_S
from octavo.client.failure import client_closed, failure_from_rpc
from octavo.client.generation_parameters import GenerationParameters, Message
from octavo.client.generation_request import generate_request
from octavo.client.generation_types import Generation
from octavo.client.model_types import Model, Tokenization
from octavo.client.retries import Attempts
from octavo.client.timeouts import chosen_timeout_s
from octavo.errors import FailedPreconditionError
from octavo.rpc.channel import open_public_channel
from octavo.v1.generation_pb2_grpc import GenerationServiceStub, ModelServiceStub

T = TypeVar("T")


class AsyncClient:
    """A client of the server at `address` (host:port), for one event loop. As `octavo.Client`, with
    calls that are awaited. Cancelling a task cancels its call on the server.

    >>> async def ask():
    ...     async with octavo.AsyncClient(address) as client:
    ...         answer = await client.generate(
    ...             messages=[{"role": "user", "content": "What is the capital of France?"}],
    ...             temperature=0,
    ...         )
    ...         return answer.text
    >>> asyncio.run(ask())
    'The capital of France is Paris.'
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        timeout: float | None = DEFAULT_TIMEOUT_S,
        retries: int = DEFAULT_RETRIES,
    ) -> None:
        self.address = full_address(address)
        self._timeout_s = chosen_timeout_s(timeout, None)
        self._retries = retries
        self._channel: grpc.aio.Channel | None = None
        self._stubs: Mapping[type, Any] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    async def generate(
        self,
        prompt: str | None = None,
        *,
        messages: Sequence[Message] | None = None,
        token_ids: Sequence[int] | None = None,
        timeout: float | None = None,
        **parameters: Unpack[GenerationParameters],
    ) -> Generation:
        """Continues a prompt, a conversation or token ids, and returns the whole."""
        call = calls.generate_call(prompt, messages, token_ids, parameters)
        return await self._answer(call, timeout)

    def stream(
        self,
        prompt: str | None = None,
        *,
        messages: Sequence[Message] | None = None,
        token_ids: Sequence[int] | None = None,
        timeout: float | None = None,
        **parameters: Unpack[GenerationParameters],
    ) -> AsyncGenerationStream:
        """Continues a prompt, a conversation or token ids, and yields events as they come.

        Closing the stream, or dropping it, cancels what is not finished.

        >>> async def count():
        ...     async with octavo.AsyncClient(address) as client:
        ...         stream = client.stream("One, two, three,", temperature=0, max_tokens=4)
        ...         async for text in stream.text():
        ...             print(text, end="")
        >>> asyncio.run(count())
         four, five,
        """
        request = generate_request(prompt, messages, token_ids, parameters)
        attempts = self._attempts(timeout)
        start = partial(_start, self._stub(GenerationServiceStub).StreamGenerate, request)
        return AsyncGenerationStream(
            start(attempts.remaining_s), attempts, start_again=start, address=self.address
        )

    def session(self, *, timeout: float | None = None) -> AsyncSession:
        """An async context manager that carries many generations on one stream.

        `timeout` limits the session as a whole; without it only its generations have one.

        >>> async def count():
        ...     async with octavo.AsyncClient(address) as client, client.session() as session:
        ...         prompts = ["One, two, three,", "A, B, C, D,"]
        ...         streams = [session.open(p, temperature=0, max_tokens=4) for p in prompts]
        ...         return [(await stream.result()).text for stream in streams]
        >>> asyncio.run(count())
        [' four, five,', ' E, F,']
        """
        timeout_s = chosen_timeout_s(timeout, None)
        method = self._stub(GenerationServiceStub).OpenSession
        return AsyncSession(
            partial(method, timeout=timeout_s),
            address=self.address,
            timeout_s=timeout_s,
            default_timeout_s=self._timeout_s,
        )

    async def tokenize(
        self,
        text: str | None = None,
        *,
        messages: Sequence[Message] | None = None,
        template_arguments: Mapping[str, Any] | None = None,
        add_special_tokens: bool | None = None,
        token_bytes: bool | None = None,
        model: str | None = None,
        timeout: float | None = None,
    ) -> Tokenization:
        """The token ids of a text, or of a conversation as the model's chat template renders it."""
        call = calls.tokenize_call(
            text,
            messages,
            template_arguments=template_arguments,
            add_special_tokens=add_special_tokens,
            token_bytes=token_bytes,
            model=model,
        )
        return await self._answer(call, timeout)

    async def detokenize(
        self,
        token_ids: Sequence[int],
        *,
        skip_special_tokens: bool | None = None,
        model: str | None = None,
        timeout: float | None = None,
    ) -> str:
        """The text of token ids."""
        call = calls.detokenize_call(
            token_ids, skip_special_tokens=skip_special_tokens, model=model
        )
        return await self._answer(call, timeout)

    async def models(self, *, timeout: float | None = None) -> Sequence[Model]:
        """The models that the server serves."""
        return await self._answer(calls.models_call(), timeout)

    async def model(self, name: str | None = None, *, timeout: float | None = None) -> Model:
        """One model: its limits, its defaults, and what requests may ask for."""
        return await self._answer(calls.model_call(name), timeout)

    async def aclose(self) -> None:
        """Closes the connection; what is open is cancelled."""
        self._closed = True
        if self._channel is not None:
            await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _answer(self, call: calls.UnaryCall[T], timeout: float | None) -> T:
        attempts = self._attempts(timeout)
        while True:
            method = getattr(self._stub(call.service), call.method)
            try:
                return call.read(await method(call.request, timeout=attempts.remaining_s))
            except grpc.aio.AioRpcError as error:
                timeout_s = attempts.timeout_s
                failure = failure_from_rpc(error, address=self.address, timeout_s=timeout_s)
                if (delay_s := attempts.delay_after(failure)) is None:
                    raise failure from error
                await asyncio.sleep(delay_s)
            except asyncio.CancelledError:
                if task_is_cancelled():
                    raise
                raise client_closed() from None  # by another task

    def _attempts(self, timeout: float | None) -> Attempts:
        return Attempts(retries=self._retries, timeout_s=chosen_timeout_s(timeout, self._timeout_s))

    def _stub(self, service: type) -> Any:
        """Opens the channel at the first call: a channel belongs to the loop it was made in."""
        if self._closed:
            raise client_closed()
        loop = asyncio.get_running_loop()
        if self._channel is None:
            self._loop = loop
            self._channel = open_public_channel(self.address)
            self._stubs = {
                service: service(self._channel)
                for service in (GenerationServiceStub, ModelServiceStub)
            }
        if loop is not self._loop:
            raise FailedPreconditionError(
                "The client belongs to another event loop; make one for each.",
                reason="OTHER_EVENT_LOOP",
            )
        return self._stubs[service]


def _start(method: Any, request: Any, timeout_s: float | None) -> Any:
    return method(request, timeout=timeout_s)
