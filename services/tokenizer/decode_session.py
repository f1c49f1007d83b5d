"""The decoders of one StreamDecode stream: a frame in, a frame out."""

from __future__ import annotations

import structlog

from octavo.errors import (
    AlreadyExistsError,
    InternalError,
    NotFoundError,
    OctavoError,
    ResourceExhaustedError,
    invalid_field,
)
from octavo.v1 import tokenizer_pb2 as pb
from services.tokenizer.backends import TokenizerBackend
from services.tokenizer.stream_decoder import Decoded, Opening, StreamDecoder

log = structlog.get_logger()


class DecodeSession:
    """Keys and their decoders. What fails is answered for its key; the stream goes on."""

    def __init__(self, backend: TokenizerBackend, *, max_decoders: int) -> None:
        self._backend = backend
        self._max_decoders = max_decoders
        self._decoders: dict[int, StreamDecoder] = {}

    @property
    def num_open(self) -> int:
        """How many decoders are open."""
        return len(self._decoders)

    def answer(self, frame: pb.StreamDecodeRequest) -> pb.StreamDecodeResponse:
        """Opens, decodes and drops, in this order; one entry for each entry, and for each open that
        failed.
        """
        answer = pb.StreamDecodeResponse()
        for opening in frame.opens:
            try:
                self._open(opening)
            except Exception as error:  # noqa: BLE001 - of one output, whatever it is
                _fail(answer, opening.key, opening.request_id, error)
        for entry in frame.entries:
            try:
                _add_decoded(answer, entry.key, self._decode(entry))
            except Exception as error:  # noqa: BLE001 - as above
                decoder = self._decoders.pop(entry.key, None) if entry.HasField("key") else None
                request_id = "" if decoder is None else decoder.request_id
                _fail(answer, entry.key, request_id, error)
        for key in frame.closed_keys:
            self._decoders.pop(key, None)
        return answer

    def _open(self, opening: pb.OpenDecoder) -> None:
        if not opening.HasField("key"):
            raise invalid_field("opens.key", None, "set")
        if opening.key in self._decoders:
            raise AlreadyExistsError(
                f"opens.key is {opening.key}; a decoder with this key is open.",
                reason="KEY_IN_USE",
                metadata={"field": "opens.key", "value": str(opening.key)},
            )
        if len(self._decoders) >= self._max_decoders:
            raise ResourceExhaustedError(
                f"The stream has {len(self._decoders)} decoders open, the most it may have.",
                reason="TOO_MANY_DECODERS",
                metadata={"limit": str(self._max_decoders)},
            )
        self._decoders[opening.key] = StreamDecoder(
            self._backend,
            Opening(
                prompt_tail=opening.prompt_tail_ids,
                ids_so_far=opening.token_ids_so_far,
                sent_bytes=opening.sent_bytes,
                stop_texts=opening.stop_texts,
                include_stop=opening.include_stop,
                token_bytes=opening.token_bytes,
                min_ids=opening.min_token_count,
                request_id=opening.request_id,
            ),
        )

    def _decode(self, entry: pb.DecodeEntry) -> Decoded:
        if not entry.HasField("key"):
            raise invalid_field("entries.key", None, "set")
        decoder = self._decoders.get(entry.key)
        if decoder is None:
            raise NotFoundError(
                f"entries.key is {entry.key}; no decoder with this key is open.",
                reason="UNKNOWN_KEY",
                metadata={"field": "entries.key", "value": str(entry.key)},
            )
        decoded = decoder.add(entry.token_ids, last=entry.last)
        if entry.last or decoded.stop is not None:
            del self._decoders[entry.key]
        return decoded


def _add_decoded(answer: pb.StreamDecodeResponse, key: int, decoded: Decoded) -> None:
    entry = answer.entries.add(key=key, text=decoded.text, token_bytes=decoded.token_bytes)
    if decoded.stop is not None:
        entry.stop.text = decoded.stop.text
        entry.stop.token_index = decoded.stop.token_index


def _fail(answer: pb.StreamDecodeResponse, key: int, request_id: str, error: Exception) -> None:
    """Says in the log whose output fails, and in the answer why."""
    if isinstance(error, OctavoError):
        log.info("decoder failed", request_id=request_id, reason=error.reason, error=error.message)
    else:
        log.error("decoder failed", request_id=request_id, exc_info=error)
        error = InternalError("The tokenizer failed; its log holds the cause.")
    _add_error(answer, key, error)


def _add_error(answer: pb.StreamDecodeResponse, key: int, error: OctavoError) -> None:
    entry = answer.entries.add(key=key)
    entry.error.code = int(error.code)
    entry.error.reason = error.reason
    entry.error.message = error.message
    entry.error.metadata.update(error.metadata)
