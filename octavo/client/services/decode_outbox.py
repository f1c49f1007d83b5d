"""What waits for the next frame of a StreamDecode stream."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from octavo.client.services.tokenizer_types import DecodedSoFar, DecoderOptions
from octavo.v1 import tokenizer_pb2 as pb

# A frame takes no further decoder past this many ids: decoders that are opened again bring all
# their ids, too much for one message and for the patience of the others.
MAX_FRAME_IDS = 64 * 1024


class DecodeOutbox:
    """Decoders to open, ids merged per decoder, decoders to drop. `filled` while a frame is due."""

    def __init__(self) -> None:
        self.filled = asyncio.Event()
        self._opens: dict[int, pb.OpenDecoder] = {}
        self._entries: dict[int, pb.DecodeEntry] = {}
        self._closed_keys: list[int] = []
        self._opens_wait = True

    def open(self, key: int, options: DecoderOptions, so_far: DecodedSoFar) -> None:
        """Keeps the opening until the decoder's first ids come."""
        self._opens[key] = pb.OpenDecoder(
            key=key,
            prompt_tail_ids=options.prompt_tail_ids,
            token_ids_so_far=so_far.token_ids,
            sent_bytes=so_far.sent_bytes or None,
            stop_texts=options.stop_texts,
            include_stop=options.include_stop,
            token_bytes=options.token_bytes,
            min_token_count=options.min_tokens or None,
            request_id=options.request_id,
        )

    def open_now(self) -> None:
        """Opens wait no more: a tokenizer that drains ends once nothing is open that it knows."""
        self._opens_wait = False
        self._note_filled()

    def feed(self, key: int, token_ids: Sequence[int], *, last: bool) -> None:
        """Adds ids to those of the decoder that wait."""
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = pb.DecodeEntry(key=key)
        entry.token_ids.extend(token_ids)
        entry.last = last
        self.filled.set()

    def close(self, key: int) -> None:
        """Drops what waits; the tokenizer hears of it if it has heard of the decoder."""
        self._entries.pop(key, None)
        if self._opens.pop(key, None) is None:
            self._closed_keys.append(key)
        self._note_filled()

    def take_frame(self) -> pb.StreamDecodeRequest:
        """The next frame: an open goes with the first ids of its decoder."""
        frame = pb.StreamDecodeRequest(closed_keys=self._closed_keys)
        self._closed_keys = []
        num_ids = 0
        while self._opens and not self._opens_wait and num_ids < MAX_FRAME_IDS:
            opening = self._opens.pop(next(iter(self._opens)))
            num_ids += len(opening.token_ids_so_far)
            frame.opens.append(opening)
        while self._entries and num_ids < MAX_FRAME_IDS:
            key = next(iter(self._entries))
            entry = self._entries.pop(key)
            num_ids += len(entry.token_ids)
            if (first := self._opens.pop(key, None)) is not None:
                num_ids += len(first.token_ids_so_far)
                frame.opens.append(first)
            frame.entries.append(entry)
        self._note_filled()
        return frame

    def _note_filled(self) -> None:
        if self._entries or self._closed_keys or (self._opens and not self._opens_wait):
            self.filled.set()
        else:
            self.filled.clear()
