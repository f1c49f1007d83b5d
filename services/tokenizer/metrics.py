"""What a tokenizer process counts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram

from octavo.errors import OctavoError, http_status
from octavo.metrics import process_registry
from octavo.rpc.call_log import logged_call
from octavo.v1 import tokenizer_pb2 as pb

if TYPE_CHECKING:
    from octavo.rpc.call_log import Context

_STREAM = "StreamDecode"
_CALL_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_FRAME_S = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5)


class TokenizerMetrics:
    """The metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = process_registry("tokenizer")
        self._calls = Counter(
            "octavo_tokenizer_calls",
            "Calls that have ended.",
            ["method", "outcome"],
            registry=registry,
        )
        self._errors = Counter(
            "octavo_tokenizer_errors",
            "Calls and decoders that were refused or failed.",
            ["reason"],
            registry=registry,
        )
        self._call_s = Histogram(
            "octavo_tokenizer_call_seconds",
            "Time of a call that is no stream.",
            ["method"],
            buckets=_CALL_S,
            registry=registry,
        )
        self._frame_s = Histogram(
            "octavo_tokenizer_frame_seconds",
            "Time to decode what one frame of a stream brought.",
            buckets=_FRAME_S,
            registry=registry,
        )
        self.encoded_ids = Counter(
            "octavo_tokenizer_encoded_ids", "Ids that texts were turned into.", registry=registry
        )
        self._decoded_ids = Counter(
            "octavo_tokenizer_decoded_ids", "Ids that streams have decoded.", registry=registry
        )
        self.decoders_open = Gauge(
            "octavo_tokenizer_decoders_open", "Stream decoders that are open.", registry=registry
        )
        self._streams_open = Gauge(
            "octavo_tokenizer_streams_open", "Streams of gateways that are open.", registry=registry
        )

    @contextmanager
    def call(self, method: str, context: Context) -> Iterator[None]:
        """Observes a call of the server, and lets the log do so too."""
        name = method.rpartition("/")[-1]
        outcome = "failed"
        try:
            with self._lasting(name), logged_call(method, context):
                yield
            outcome = "ok"
        except OctavoError as error:
            outcome = "refused" if http_status(error.code) < 500 else "failed"
            self._errors.labels(error.reason).inc()
            raise
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            self._calls.labels(name, outcome).inc()

    def _lasting(self, name: str) -> AbstractContextManager[object]:
        if name == _STREAM:
            return self._streams_open.track_inprogress()
        return self._call_s.labels(name).time()

    def decoded(
        self, frame: pb.StreamDecodeRequest, answer: pb.StreamDecodeResponse, seconds: float
    ) -> None:
        """Counts a frame that was answered."""
        self._frame_s.observe(seconds)
        self._decoded_ids.inc(sum(len(entry.token_ids) for entry in frame.entries))
        for entry in answer.entries:
            if entry.HasField("error"):
                self._errors.labels(entry.error.reason).inc()
