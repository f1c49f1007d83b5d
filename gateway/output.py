"""One output of a request: ids come from the worker, go through a decoder, and leave as deltas."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.event_buffer import EventBuffer
from gateway.events import Finished, FinishReason, Token
from gateway.shown_ids import ShownIds
from gateway.token_table import TokenTable, scored_token
from octavo.client.services.durable_decoder import DurableDecoder
from octavo.client.services.tokenizer_types import Piece
from octavo.client.services.worker_types import Finish, OutputItem, TokenLogprob
from octavo.errors import OctavoError


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputRules:
    """What of an output the client wants to see."""

    send_text: bool
    send_tokens: bool
    include_stop: bool
    stop_sequences: Sequence[Sequence[int]] = ()


class Output:
    """The sink of one decoder. Without a decoder ids become tokens at once, and no text."""

    def __init__(
        self,
        index: int,
        rules: OutputRules,
        table: TokenTable,
        events: EventBuffer,
        *,
        on_finished: Callable[[Output], None],
        on_failed: Callable[[OctavoError], None],
    ) -> None:
        self.index = index
        self.num_tokens = 0
        self.is_finished = False
        self.decoder: DurableDecoder | None = None
        self._rules = rules
        self._table = table
        self._events = events
        self._on_finished = on_finished
        self._on_failed = on_failed
        self._worker_finish: Finish | None = None
        self._shown = ShownIds(rules.stop_sequences, include_stop=rules.include_stop)
        self._logprobs: deque[TokenLogprob] = deque()

    @property
    def is_made(self) -> bool:
        """Whether the worker makes no more of it; its last text may still be on the way."""
        return self.is_finished or self._worker_finish is not None

    @property
    def is_being_made(self) -> bool:
        """Whether the worker goes on with it, as far as it has said."""
        return self._worker_finish is None

    def receive(self, item: OutputItem) -> None:
        """Takes what the worker made. What comes after a stop text matched is dropped."""
        if self.is_made or not (item.token_ids or item.finish):
            return
        self._worker_finish = item.finish
        self._logprobs.extend(item.logprobs)
        shown = self._shown.take(item.token_ids, item.finish)
        if self.decoder is not None:
            if shown or item.finish:
                self.decoder.feed(shown, last=item.finish is not None)
            return
        self._emit(shown, "", ())
        if item.finish is not None:
            self._finish_as_worker(item.finish)

    def decoded(self, piece: Piece) -> None:
        """Takes the text of ids that were fed."""
        if self.is_finished:
            return
        kept = piece.token_ids
        if piece.stop is not None:
            kept = kept[: piece.stop.token_index + 1]
        self._emit(kept, piece.text, piece.token_bytes)
        if piece.stop is not None:
            self.finish(FinishReason.STOP, stop_text=piece.stop.text)
        elif piece.last and self._worker_finish is not None:
            self._finish_as_worker(self._worker_finish)

    def fail(self, error: OctavoError) -> None:
        """Takes the failure of the decoder."""
        self._on_failed(error)

    def finish(
        self,
        reason: FinishReason,
        *,
        stop_text: str | None = None,
        stop_token_id: int | None = None,
        stop_token_sequence: Sequence[int] | None = None,
    ) -> None:
        """Ends the output, once."""
        if self.is_finished:
            return
        self.is_finished = True
        self._events.add(
            Finished(
                output_index=self.index,
                reason=reason,
                stop_text=stop_text,
                stop_token_id=stop_token_id,
                stop_token_sequence=stop_token_sequence,
            )
        )
        self._on_finished(self)

    def close(self) -> None:
        """Drops the decoder."""
        if self.decoder is not None:
            self.decoder.close()

    def _emit(self, ids: Sequence[int], text: str, token_bytes: Sequence[bytes]) -> None:
        self.num_tokens += len(ids)
        tokens: list[Token] = []
        if self._rules.send_tokens:
            pieces = token_bytes or itertools.repeat(b"")
            tokens = [self._token(*pair) for pair in zip(ids, pieces, strict=False)]
        self._events.add_delta(self.index, text if self._rules.send_text else "", tokens)

    def _token(self, token_id: int, token_bytes: bytes) -> Token:
        logprob = self._logprobs.popleft() if self._logprobs else None
        return scored_token(token_id, token_bytes, logprob, self._table)

    def _finish_as_worker(self, finish: Finish) -> None:
        self.num_tokens += self._shown.num_waiting  # generated, though not shown
        index = finish.stop_sequence_index
        self.finish(
            FinishReason[finish.reason.name],
            stop_token_id=finish.stop_token_id,
            stop_token_sequence=None if index is None else self._rules.stop_sequences[index],
        )
