"""A gateway whose answers a test writes down: real gRPC on a socket of this machine, no model."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
from grpc_status import rpc_status

from octavo.errors import OctavoError
from octavo.rpc.status import status_proto
from octavo.v1 import generation_pb2 as pb
from octavo.v1 import generation_pb2_grpc

Item = pb.StreamGenerateResponse | OctavoError
Script = Callable[[pb.GenerateRequest], Iterator[Item]]

LIMIT_S = 20.0
# As Octavo's servers: clients may ping a silent call every second.
_OPTIONS = (
    ("grpc.http2.min_ping_interval_without_data_ms", 500),
    ("grpc.http2.max_ping_strikes", 0),
)


def accepted(request_id: str = "req-1") -> pb.StreamGenerateResponse:
    return pb.StreamGenerateResponse(
        accepted=pb.Accepted(request_id=request_id, model="tiny", prompt_token_count=3, seed=7)
    )


def delta(text: str, output_index: int = 0, **fields: Any) -> pb.StreamGenerateResponse:
    return pb.StreamGenerateResponse(delta=pb.Delta(output_index=output_index, text=text, **fields))


def finished(
    reason: str = "STOP", output_index: int = 0, **fields: Any
) -> pb.StreamGenerateResponse:
    number = pb.FinishReason.Value(f"FINISH_REASON_{reason}")
    return pb.StreamGenerateResponse(
        finished=pb.Finished(output_index=output_index, reason=number, **fields)
    )


def usage(completion_tokens: int = 2) -> pb.StreamGenerateResponse:
    return pb.StreamGenerateResponse(
        usage=pb.Usage(prompt_token_count=3, completion_token_count=completion_tokens)
    )


def say(*texts: str) -> Script:
    """An answer of these pieces."""

    def script(request: pb.GenerateRequest) -> Iterator[Item]:
        yield accepted()
        yield from (delta(text) for text in texts)
        yield finished()
        yield usage(len(texts))

    return script


def chatter(request: pb.GenerateRequest) -> Iterator[Item]:
    """An answer without an end, at a model's pace."""
    yield accepted()
    while True:
        yield delta("la ")
        time.sleep(0.002)


def refuse(error: OctavoError, *, times: int, then: Script) -> Script:
    """Fails so many calls, then answers."""
    left = iter(range(times))

    def script(request: pb.GenerateRequest) -> Iterator[Item]:
        if next(left, None) is None:
            yield from then(request)
        else:
            yield error

    return script


class ScriptedServer(generation_pb2_grpc.GenerationServiceServicer):
    """Answers by `script`. `num_open` counts calls and session generations that have not ended;
    `gate` holds back every event while it is cleared.
    """

    def __init__(self, port: int = 0) -> None:
        self.script: Script = say("Hel", "lo")
        self.model = pb.Model(
            name="tiny",
            max_context_tokens=64,
            vocabulary_size=96,
            chat=True,
            ready=True,
            eos_token_ids=[2],
            capabilities=pb.Capabilities(max_outputs=4, fields=["sampling.temperature"]),
        )
        self.requests: list[Any] = []
        self.timeouts_s: list[float | None] = []
        self.cancelled_keys: list[int] = []
        self.num_open = 0
        self.gate = threading.Event()
        self.gate.set()
        self._lock = threading.Lock()
        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=16), options=_OPTIONS)
        generation_pb2_grpc.add_GenerationServiceServicer_to_server(self, self._server)
        generation_pb2_grpc.add_ModelServiceServicer_to_server(_Models(self.model), self._server)
        port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        self.port = port
        self.address = f"127.0.0.1:{port}"
        self._server.start()

    def stop(self) -> None:
        self.gate.set()
        self._server.stop(0).wait(LIMIT_S)

    def Generate(self, request: pb.GenerateRequest, context: Any) -> pb.GenerateResponse:
        answer = pb.GenerateResponse()
        for item in self._play(request, context):
            event = raise_or(item, context)
            match event.WhichOneof("event"):
                case "accepted":
                    answer.accepted.CopyFrom(event.accepted)
                case "delta":
                    answer.outputs.add(output_index=0, text=event.delta.text)
                case "usage":
                    answer.usage.CopyFrom(event.usage)
        text = "".join(output.text for output in answer.outputs)
        del answer.outputs[:]
        answer.outputs.add(
            text=text, finished=pb.Finished(reason=pb.FinishReason.FINISH_REASON_STOP)
        )
        return answer

    def StreamGenerate(
        self, request: pb.GenerateRequest, context: Any
    ) -> Iterator[pb.StreamGenerateResponse]:
        for item in self._play(request, context):
            yield raise_or(item, context)

    def OpenSession(
        self, request_iterator: Iterator[pb.OpenSessionRequest], context: Any
    ) -> Iterator[pb.OpenSessionResponse]:
        self.timeouts_s.append(context.time_remaining())
        session = _Session(self, context)
        threading.Thread(target=session.read, args=(request_iterator,), daemon=True).start()
        yield from iter(session.written.get, None)

    def Tokenize(self, request: pb.TokenizeRequest, context: Any) -> pb.TokenizeResponse:
        self.requests.append(request)
        given = request.text or request.chat.messages[0].content
        return pb.TokenizeResponse(
            token_ids=given.encode(), token_bytes=[b"x"], rendered_text=given, max_context_tokens=9
        )

    def Detokenize(self, request: pb.DetokenizeRequest, context: Any) -> pb.DetokenizeResponse:
        self.requests.append(request)
        return pb.DetokenizeResponse(text=bytes(request.token_ids).decode())

    def _play(self, request: pb.GenerateRequest, context: Any) -> Iterator[Item]:
        remaining_s = context.time_remaining()
        self.timeouts_s.append(None if remaining_s > 1e9 else remaining_s)
        self.requests.append(request)
        ended = self.open_one()
        if not context.add_callback(ended.set):
            ended.set()
        yield from self.until(ended, self.script(request))

    def open_one(self) -> threading.Event:
        """Counts one more as open, until the event is set."""
        with self._lock:
            self.num_open += 1
        return _Ended(self._close_one)

    def until(self, ended: threading.Event, items: Iterator[Item]) -> Iterator[Item]:
        """The items, one by one through the gate, while the client is there."""
        for item in items:
            while not self.gate.wait(0.01) and not ended.is_set():
                pass
            if ended.is_set():
                return
            yield item

    def _close_one(self) -> None:
        with self._lock:
            self.num_open -= 1


class _Ended(threading.Event):
    """An event that tells once when it is set."""

    def __init__(self, on_set: Callable[[], None]) -> None:
        super().__init__()
        self._on_set: Callable[[], None] | None = on_set

    def set(self) -> None:
        on_set, self._on_set = self._on_set, None
        super().set()
        if on_set is not None:
            on_set()


class _Session:
    """One session; every generation plays its script in a thread of its own."""

    def __init__(self, server: ScriptedServer, context: Any) -> None:
        self.written: queue.SimpleQueue[pb.OpenSessionResponse | None] = queue.SimpleQueue()
        self._server = server
        self._ended: dict[int, threading.Event] = {}
        self._threads: list[threading.Thread] = []
        context.add_callback(self._end_all)

    def read(self, requests: Iterator[pb.OpenSessionRequest]) -> None:
        try:
            for request in requests:
                self._server.requests.append(request)
                if request.WhichOneof("action") == "cancel":
                    self._server.cancelled_keys.append(request.key)
                    self._ended[request.key].set()
                else:
                    self._start(request)
            for thread in self._threads:
                thread.join(LIMIT_S)
        except grpc.RpcError:  # the client dropped the stream
            self._end_all()
        self.written.put(None)

    def _start(self, request: pb.OpenSessionRequest) -> None:
        self._ended[request.key] = self._server.open_one()
        thread = threading.Thread(target=self._play, args=(request.key, request.open), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _play(self, key: int, request: pb.GenerateRequest) -> None:
        ended = self._ended[key]
        for item in self._server.until(ended, self._server.script(request)):
            self._write(key, item)
        if ended.is_set():
            self._write(key, finished("CANCELLED"))
            self._write(key, usage(0))
        ended.set()

    def _write(self, key: int, item: Item) -> None:
        if isinstance(item, OctavoError):
            error = pb.Error(
                code=pb.ErrorCode.Name(int(item.code)),  # type: ignore[arg-type] # its name
                reason=item.reason,
                message=item.message,
                metadata=item.metadata,
                retry_delay_ms=item.retry_delay_ms,
            )
            self.written.put(pb.OpenSessionResponse(key=key, error=error))
            return
        kind = item.WhichOneof("event")
        assert kind is not None
        event: Any = {kind: getattr(item, kind)}
        self.written.put(pb.OpenSessionResponse(key=key, **event))

    def _end_all(self) -> None:
        for ended in list(self._ended.values()):
            ended.set()


class _Models(generation_pb2_grpc.ModelServiceServicer):
    def __init__(self, model: pb.Model) -> None:
        self._model = model

    def ListModels(self, request: pb.ListModelsRequest, context: Any) -> pb.ListModelsResponse:
        return pb.ListModelsResponse(models=[self._model])

    def GetModel(self, request: pb.GetModelRequest, context: Any) -> pb.GetModelResponse:
        return pb.GetModelResponse(model=self._model)


def raise_or(item: Item, context: Any) -> pb.StreamGenerateResponse:
    """The event; a failure ends the call with its status."""
    if isinstance(item, OctavoError):
        context.abort_with_status(rpc_status.to_status(status_proto(item)))
    assert isinstance(item, pb.StreamGenerateResponse)
    return item
