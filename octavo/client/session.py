"""Many generations on one stream, for threads."""

from __future__ import annotations

import atexit
import queue
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self, Unpack

import grpc

from octavo.client.failure import failure_from_rpc, timed_out
from octavo.client.generation_parameters import GenerationParameters, Message
from octavo.client.generation_request import generate_request
from octavo.client.generation_types import Event
from octavo.client.retries import Attempts
from octavo.client.session_requests import SessionRequests, cancel_message, open_message
from octavo.client.stream import EventStream, StreamCall
from octavo.client.timeouts import chosen_timeout_s
from octavo.errors import CancelledError, OctavoError
from octavo.v1 import generation_pb2 as pb

if TYPE_CHECKING:  # subscripts that exist in the stubs only
    Inbox = queue.SimpleQueue[Event | OctavoError]
    Outbox = queue.SimpleQueue[pb.OpenSessionRequest | None]
    SessionCall = StreamCall[pb.OpenSessionResponse]


class SessionStream(EventStream):
    """One generation of a session."""

    def __init__(self, inbox: Inbox, attempts: Attempts, *, cancel: Callable[[], None]) -> None:
        super().__init__(cancel)
        self._inbox = inbox
        self._attempts = attempts

    def cancel(self) -> None:
        """Asks the server to end the generation: what it has so far, Finished with CANCELLED for
        each open output, and Usage still come.
        """
        self._cancel()

    def _receive(self) -> Event:
        try:
            item = self._inbox.get(timeout=self._attempts.remaining_s)
        except queue.Empty:
            self._cancel()
            assert self._attempts.timeout_s is not None
            raise timed_out(self._attempts.timeout_s) from None
        if isinstance(item, OctavoError):
            raise item
        return item


class Session:
    """A context manager. Leaving it lets what is open finish; leaving it with an exception, or
    `close`, cancels everything. Any thread may open generations and read them.
    """

    def __init__(
        self,
        start: Callable[[Iterator[pb.OpenSessionRequest]], SessionCall],
        *,
        address: str,
        timeout_s: float | None,
        default_timeout_s: float | None,
    ) -> None:
        self._outbox: Outbox = queue.SimpleQueue()
        self._requests: SessionRequests[Inbox] = SessionRequests(queue.SimpleQueue)
        self._default_timeout_s = default_timeout_s
        self._call = start(iter(self._outbox.get, None))
        # Holds no reference to the session, so that one that nobody holds is cancelled.
        self._reader = _Reader(self._call, self._requests, self._outbox, address, timeout_s)
        self._reader.start()

    def open(
        self,
        prompt: str | None = None,
        *,
        messages: Sequence[Message] | None = None,
        token_ids: Sequence[int] | None = None,
        timeout: float | None = None,
        **parameters: Unpack[GenerationParameters],
    ) -> SessionStream:
        """Starts a generation; what it fails with is raised where its events are read.

        Takes what `Client.generate` takes. A `timeout` counts from here and is noticed where events
        are read.
        """
        request = generate_request(prompt, messages, token_ids, parameters)
        attempts = Attempts(retries=0, timeout_s=chosen_timeout_s(timeout, self._default_timeout_s))
        key, inbox = self._requests.add()
        self._outbox.put(open_message(key, request))
        outbox = self._outbox

        def cancel() -> None:  # may run while Python frees memory: takes no lock
            outbox.put(cancel_message(key))

        return SessionStream(inbox, attempts, cancel=cancel)

    def finish(self) -> None:
        """Opens no more, and waits until everything open has ended."""
        self._requests.finish()
        self._outbox.put(None)
        self._reader.join()

    def close(self) -> None:
        """Cancels everything that is open."""
        self._requests.end(CancelledError("The session was closed.", reason="SESSION_CLOSED"))
        self._reader.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error_type is not None:
            self.close()
            return
        try:
            self.finish()
        except BaseException:  # a Ctrl-C while it waits
            self.close()
            raise

    def __del__(self) -> None:
        self._call.cancel()


class _Reader(threading.Thread):
    """Hands what comes to the generations, until the stream ends."""

    def __init__(
        self,
        call: SessionCall,
        requests: SessionRequests[Inbox],
        outbox: Outbox,
        address: str,
        timeout_s: float | None,
    ) -> None:
        super().__init__(name="octavo session", daemon=True)
        self._call = call
        self._requests = requests
        self._outbox = outbox
        self._address = address
        self._timeout_s = timeout_s
        _readers.add(self)

    def run(self) -> None:
        failure: OctavoError | None = None
        try:
            for response in self._call:
                self._requests.deliver(response)
        except grpc.RpcError as error:
            failure = failure_from_rpc(error, address=self._address, timeout_s=self._timeout_s)
        finally:
            self._requests.end(failure)
            self._outbox.put(None)  # ends the thread in which gRPC reads what is to be written

    def end(self) -> None:
        """Cancels the stream, and waits for the last of it."""
        self._call.cancel()
        self.join()


_readers: weakref.WeakSet[_Reader] = weakref.WeakSet()


@atexit.register
def _end_readers() -> None:
    """Before Python stops daemon threads: see octavo/rpc/channel.py."""
    for reader in list(_readers):
        reader.end()
