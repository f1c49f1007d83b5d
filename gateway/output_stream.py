"""One request between its worker and its client: items in, events out.

Hears of the worker's items and, through its outputs, of the decoders' pieces; puts events into the
buffer that the client's door reads. Nothing here waits, so no client can hold up a step.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.event_buffer import EventBuffer
from gateway.events import Accepted, FinishReason, Token, Usage
from gateway.output import Output, OutputRules
from gateway.request_clock import RequestClock
from gateway.token_table import TokenTable
from octavo.client.services.replicated_tokenizer import ReplicatedTokenizer
from octavo.client.services.tokenizer_types import DecoderOptions
from octavo.client.services.worker import Run
from octavo.client.services.worker_types import FinishReason as WorkerFinishReason
from octavo.client.services.worker_types import OutputItem, Timings, TokenLogprob
from octavo.errors import AbortedError, DeadlineExceededError, OctavoError

# How long the counts and times of a request that ended here wait for the worker's own.
SETTLE_S = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamPlan:
    """What an OutputStream needs to know of its request. Times are on time.monotonic()."""

    request_id: str
    model: str
    prompt_ids: Sequence[int]
    send_prompt_tokens: bool
    echoed_text: str
    table: TokenTable
    seed: int
    num_outputs: int
    arrived_at: float
    deadline_at: float | None
    rules: OutputRules
    decoder: DecoderOptions | None


class OutputStream:
    """The sink of one request's items, and the source of its events."""

    def __init__(self, plan: StreamPlan, tokenizer: ReplicatedTokenizer) -> None:
        self.events = EventBuffer()
        self._plan = plan
        self._clock = RequestClock(plan.arrived_at)
        self._run: Run | None = None
        self._accepted = False
        self._cancel_asked = False
        self._num_cached_prompt_tokens = 0
        self._timings: Timings | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._outputs = [self._output(index) for index in range(plan.num_outputs)]
        if plan.decoder is not None:
            for output in self._outputs:
                output.decoder = tokenizer.open_decoder(plan.decoder, output)

    @property
    def num_completion_tokens(self) -> int:
        """Counts the tokens of all outputs so far."""
        return sum(output.num_tokens for output in self._outputs)

    @property
    def timings(self) -> Timings:
        """The worker's own times, or as far as they can be told from here."""
        return self._timings or self._clock.timings()

    @property
    def first_token_ms(self) -> float:
        """From arrival to the first token; 0 where none came."""
        return self._clock.first_token_ms

    def opened(self, run: Run) -> None:
        """Takes the handle of the request that was submitted, and starts the deadline."""
        self._run = run
        if self._plan.deadline_at is not None:
            remaining_s = self._plan.deadline_at - time.monotonic()
            error = DeadlineExceededError("The deadline of the request passed.")
            self._after(max(remaining_s, 0.0), lambda: self.fail(error))

    def receive(self, item: OutputItem) -> None:
        """Takes the worker's next item."""
        if item.error is not None:
            self.fail(item.error)
            return
        self._clock.note(has_tokens=bool(item.token_ids))
        self._timings = item.timings or self._timings
        self._accept(item)
        if self._is_uncalled_cancel(item):
            self.fail(AbortedError("The worker cancelled the request.", reason="WORKER_CANCELLED"))
            return
        self._outputs[item.output_index].receive(item)
        self._settle()

    def fail(self, error: OctavoError) -> None:
        """Ends the request with `error`, unless every output has ended: then the answer stands."""
        if all(output.is_finished for output in self._outputs):
            self._end()
        else:
            self.events.fail(error)

    def cancel(self) -> None:
        """Ends the request as its client asked: Finished CANCELLED for what is open, then Usage."""
        if self._cancel_asked or self.events.has_ended or self._run is None:
            return
        self._cancel_asked = True
        self._run.cancel()
        self._after(SETTLE_S, self._cancel_here)

    def end_early(self, error: OctavoError | None) -> None:
        """Cancels the request, or fails it where there is an error."""
        if error is None:
            self.cancel()
        else:
            self.fail(error)

    def close(self) -> None:
        """Ends everything wherever it still runs. Comes last, whatever happened."""
        for timer in self._timers:
            timer.cancel()
        for output in self._outputs:
            output.close()
        if self._run is not None:
            self._run.close()

    def _output(self, index: int) -> Output:
        return Output(
            index,
            self._plan.rules,
            self._plan.table,
            self.events,
            on_finished=self._finished,
            on_failed=self.fail,
        )

    def _accept(self, item: OutputItem | None) -> None:
        """Says once that the request runs; `item` is the worker's first, None where none came."""
        if self._accepted:
            return
        self._accepted = True
        self._num_cached_prompt_tokens = (item and item.num_cached_prompt_tokens) or 0
        self.events.add(
            Accepted(
                request_id=self._plan.request_id,
                model=self._plan.model,
                num_prompt_tokens=len(self._plan.prompt_ids),
                num_cached_prompt_tokens=self._num_cached_prompt_tokens,
                seed=self._plan.seed,
                prompt_tokens=self._prompt_tokens(item.prompt_logprobs if item else ()),
                num_echoed_characters=len(self._plan.echoed_text),
            )
        )
        for output in self._outputs:
            self.events.add_delta(output.index, self._plan.echoed_text, ())

    def _prompt_tokens(self, logprobs: Sequence[TokenLogprob]) -> Sequence[Token]:
        """The prompt's tokens where they were asked for; the first one has no log probability."""
        if not self._plan.send_prompt_tokens:
            return ()
        scores = itertools.chain([None], logprobs, itertools.repeat(None))
        return tuple(map(self._plan.table.token, self._plan.prompt_ids, scores))

    def _is_uncalled_cancel(self, item: OutputItem) -> bool:
        is_cancel = item.finish is not None and item.finish.reason is WorkerFinishReason.CANCELLED
        return is_cancel and not (self._cancel_asked or self._outputs[item.output_index].is_made)

    def _finished(self, output: Output) -> None:
        """A stop text is found here: the worker is told to make no more of that output."""
        if output.is_being_made and self._run is not None:
            self._run.cancel_output(output.index)
        self._settle()

    def _settle(self) -> None:
        """Ends the events once all outputs have; the worker's own times are worth a short wait."""
        if not all(output.is_finished for output in self._outputs):
            return
        if self._timings is not None:
            self._end()
        elif not self._cancel_asked:  # stop texts matched here: the worker is still generating
            self._cancel_asked = True
            if self._run is not None:
                self._run.cancel()
            self._after(SETTLE_S, self._end)

    def _cancel_here(self) -> None:
        self._accept(None)
        for output in self._outputs:
            output.finish(FinishReason.CANCELLED)
        self._end()

    def _end(self) -> None:
        timings = self.timings
        self.events.add(
            Usage(
                num_prompt_tokens=len(self._plan.prompt_ids),
                num_cached_prompt_tokens=self._num_cached_prompt_tokens,
                num_completion_tokens=self.num_completion_tokens,
                queue_ms=timings.queue_ms,
                prefill_ms=timings.prefill_ms,
                first_token_ms=self.first_token_ms,
                decode_ms=timings.decode_ms,
            )
        )
        self.events.end()

    def _after(self, delay_s: float, act: Callable[[], None]) -> None:
        self._timers.append(asyncio.get_running_loop().call_later(delay_s, act))
