"""The client of a server, for threads."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import grpc

from octavo.client import calls
from octavo.client.addresses import full_address
from octavo.client.defaults import DEFAULT_ADDRESS, DEFAULT_RETRIES, DEFAULT_TIMEOUT_S
from octavo.client.failure import client_closed, failure_from_rpc
from octavo.client.generation_parameters import GenerationParameters, Message
from octavo.client.generation_request import generate_request
from octavo.client.generation_types import Generation
from octavo.client.model_types import Model, Tokenization
from octavo.client.retries import Attempts
from octavo.client.session import Session
from octavo.client.stream import GenerationStream
from octavo.client.timeouts import chosen_timeout_s
from octavo.rpc.channel import open_blocking_channel
from octavo.v1.generation_pb2_grpc import GenerationServiceStub, ModelServiceStub

T = TypeVar("T")


class Client:
    """A client of the server at `address` (host:port). Any number of threads may share one.

    `timeout` limits each call, in seconds; a call's own `timeout` wins, and math.inf means none. A
    call that no server took, or that was refused with a delay, is made again up to `retries` times
    while nothing has come of it. A lost connection is opened again by the next call.

    Failures are exceptions of `octavo.errors`: an `OctavoError` has a stable `reason`, `metadata`
    that names field, value and limit, and `retry_delay_ms` where a retry makes sense.

    >>> with octavo.Client(address) as client:
    ...     answer = client.generate(
    ...         messages=[{"role": "user", "content": "What is the capital of France?"}],
    ...         temperature=0,
    ...     )
    >>> answer.text
    'The capital of France is Paris.'
    >>> answer.finish_reason, answer.usage.completion_token_count
    (<FinishReason.STOP: 'STOP'>, 8)
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
        self._channel = open_blocking_channel(self.address)
        self._stubs: Mapping[type, Any] = {
            service: service(self._channel) for service in (GenerationServiceStub, ModelServiceStub)
        }
        self._closed = False

    def generate(
        self,
        prompt: str | None = None,
        *,
        messages: Sequence[Message] | None = None,
        token_ids: Sequence[int] | None = None,
        timeout: float | None = None,
        **parameters: Unpack[GenerationParameters],
    ) -> Generation:
        """Continues a prompt, a conversation or token ids, and returns the whole.

        `parameters` are those of `GenerationParameters`.

        >>> with octavo.Client(address) as client:
        ...     answer = client.generate("One, two, three,", temperature=0, max_tokens=4)
        >>> answer.text
        ' four, five,'
        """
        return self._answer(calls.generate_call(prompt, messages, token_ids, parameters), timeout)

    def stream(
        self,
        prompt: str | None = None,
        *,
        messages: Sequence[Message] | None = None,
        token_ids: Sequence[int] | None = None,
        timeout: float | None = None,
        **parameters: Unpack[GenerationParameters],
    ) -> GenerationStream:
        """Continues a prompt, a conversation or token ids, and yields events as they come.

        Closing the stream, or dropping it, cancels what is not finished.

        >>> with octavo.Client(address) as client:
        ...     for text in client.stream("One, two, three,", temperature=0, max_tokens=4).text():
        ...         print(text, end="")
         four, five,
        """
        request = generate_request(prompt, messages, token_ids, parameters)
        attempts = self._attempts(timeout)
        start = partial(_start, self._stub(GenerationServiceStub).StreamGenerate, request)
        return GenerationStream(
            start(attempts.remaining_s), attempts, start_again=start, address=self.address
        )

    def session(self, *, timeout: float | None = None) -> Session:
        """A context manager that carries many generations on one stream.

        `timeout` limits the session as a whole; without it only its generations have one.

        >>> with octavo.Client(address) as client, client.session() as session:
        ...     prompts = ["One, two, three,", "A, B, C, D,"]
        ...     streams = [session.open(p, temperature=0, max_tokens=4) for p in prompts]
        ...     [stream.result().text for stream in streams]
        [' four, five,', ' E, F,']
        """
        timeout_s = chosen_timeout_s(timeout, None)
        method = self._stub(GenerationServiceStub).OpenSession
        return Session(
            partial(method, timeout=timeout_s),
            address=self.address,
            timeout_s=timeout_s,
            default_timeout_s=self._timeout_s,
        )

    def tokenize(
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
        """The token ids of a text, or of a conversation as the model's chat template renders it.

        >>> with octavo.Client(address) as client:
        ...     client.tokenize("Hello world", token_bytes=True).token_bytes
        (b'Hello', b' world')
        """
        call = calls.tokenize_call(
            text,
            messages,
            template_arguments=template_arguments,
            add_special_tokens=add_special_tokens,
            token_bytes=token_bytes,
            model=model,
        )
        return self._answer(call, timeout)

    def detokenize(
        self,
        token_ids: Sequence[int],
        *,
        skip_special_tokens: bool | None = None,
        model: str | None = None,
        timeout: float | None = None,
    ) -> str:
        """The text of token ids.

        >>> with octavo.Client(address) as client:
        ...     client.detokenize(client.tokenize("Hello world").token_ids)
        'Hello world'
        """
        call = calls.detokenize_call(
            token_ids, skip_special_tokens=skip_special_tokens, model=model
        )
        return self._answer(call, timeout)

    def models(self, *, timeout: float | None = None) -> Sequence[Model]:
        """The models that the server serves.

        >>> with octavo.Client(address) as client:
        ...     [(model.ready, model.max_context_tokens) for model in client.models()]
        [(True, 8192)]
        """
        return self._answer(calls.models_call(), timeout)

    def model(self, name: str | None = None, *, timeout: float | None = None) -> Model:
        """One model: its limits, its defaults, and what requests may ask for.

        >>> with octavo.Client(address) as client:
        ...     "sampling.temperature" in client.model().capabilities.fields
        True
        """
        return self._answer(calls.model_call(name), timeout)

    def close(self) -> None:
        """Closes the connection; what is open is cancelled."""
        self._closed = True
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _answer(self, call: calls.UnaryCall[T], timeout: float | None) -> T:
        attempts = self._attempts(timeout)
        while True:
            method = getattr(self._stub(call.service), call.method)
            try:
                return call.read(method(call.request, timeout=attempts.remaining_s))
            except grpc.RpcError as error:
                timeout_s = attempts.timeout_s
                failure = failure_from_rpc(error, address=self.address, timeout_s=timeout_s)
                if (delay_s := attempts.delay_after(failure)) is None:
                    raise failure from error
                time.sleep(delay_s)

    def _attempts(self, timeout: float | None) -> Attempts:
        return Attempts(retries=self._retries, timeout_s=chosen_timeout_s(timeout, self._timeout_s))

    def _stub(self, service: type) -> Any:
        if self._closed:
            raise client_closed()
        return self._stubs[service]


def _start(method: Any, request: Any, timeout_s: float | None) -> Any:
    return method(request, timeout=timeout_s)
