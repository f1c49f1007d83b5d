"""The events of one generation, for threads: iterate, or take the text alone, or the whole."""

from __future__ import annotations

import abc
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Protocol, Self, TypeVar

import grpc

from octavo.client.failure import failure_from_rpc, stream_closed
from octavo.client.gathering import Gathering, ended_early
from octavo.client.generation_types import Delta, Event, Generation
from octavo.client.generation_wire import event_from_pb
from octavo.client.retries import Attempts
from octavo.errors import OctavoError
from octavo.v1 import generation_pb2 as pb

MessageT_co = TypeVar("MessageT_co", covariant=True)


class StreamCall(Protocol[MessageT_co]):
    """A call of gRPC that brings many messages."""

    def __iter__(self) -> Iterator[MessageT_co]: ...

    def cancel(self) -> bool:
        """Ends the call here and on the server."""


class EventStream(abc.ABC, Iterator[Event]):
    """One generation. An iterator of events that is closed by `close`, by leaving its `with` block,
    or by dropping it: what is not finished is then cancelled on the server.
    """

    def __init__(self, cancel: Callable[[], object]) -> None:
        self._gathering = Gathering()
        self._cancel = cancel

    def __next__(self) -> Event:
        if self._gathering.has_ended:
            raise StopIteration
        try:
            event = self._receive()
        except OctavoError as error:
            self._gathering.fail(error)
            raise
        self._gathering.add(event)
        return event

    def text(self, output_index: int = 0) -> Iterator[str]:
        """The text of one output, as it comes. Leaving the loop early closes the stream."""
        try:
            for event in self:
                if isinstance(event, Delta) and event.output_index == output_index and event.text:
                    yield event.text
        finally:
            self.close()

    def result(self) -> Generation:
        """Waits for the end; the whole generation, what was iterated before included."""
        for _ in self:
            pass
        return self._gathering.result()

    def close(self) -> None:
        """Cancels what is not finished; nothing more comes."""
        if not self._gathering.has_ended:
            self._gathering.fail(stream_closed())
            self._cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    @abc.abstractmethod
    def _receive(self) -> Event:
        """Waits for the next event; raises OctavoError in its place. Never called after the end."""


class GenerationStream(EventStream):
    """A generation on a call of its own, which is made again while nothing has come of it."""

    def __init__(
        self,
        call: StreamCall[pb.StreamGenerateResponse],
        attempts: Attempts,
        *,
        start_again: Callable[[float | None], StreamCall[pb.StreamGenerateResponse]],
        address: str,
    ) -> None:
        super().__init__(call.cancel)
        self._call = call
        self._attempts = attempts
        self._start = start_again
        self._address = address

    def _receive(self) -> Event:
        while True:
            try:
                return self._read()
            except grpc.RpcError as error:
                self._start_again(error)

    def _read(self) -> Event:
        for message in self._call:
            if (event := event_from_pb(message)) is not None:
                return event
        raise ended_early()

    def _start_again(self, error: grpc.RpcError) -> None:
        timeout_s = self._attempts.timeout_s
        failure = failure_from_rpc(error, address=self._address, timeout_s=timeout_s)
        delay_s = None if self._gathering.has_begun else self._attempts.delay_after(failure)
        if delay_s is None:
            raise failure from error
        time.sleep(delay_s)
        if self._gathering.has_ended:  # closed by another thread
            raise failure from error
        self._call = self._start(self._attempts.remaining_s)
        self._cancel = self._call.cancel
