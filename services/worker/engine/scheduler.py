"""Who runs in the next step, who waits, who goes, and what became of each.

What runs are sequences: the outputs of requests, those of one request as one sequence until they
differ. Three rules decide everything. Precedence: the highest priority first, then who came first.
One budget of tokens for a step: decodes first, then chunks of prompts. Blocks: a sequence holds
those of all its tokens from the step in which it starts; when a decode finds none free, the running
sequence of the lowest precedence gives all of its blocks back and begins anew later ("preemption by
recompute"), keeping what it has generated.

Nobody starves within a priority: the queue's first is never overtaken, the running sequence of the
highest precedence is never preempted, and every decode has its place in every step: a sequence
takes the places of all outputs that it stands for. A request of a higher priority takes the place
of lower ones even if they run.
"""

from __future__ import annotations

from collections.abc import Iterable

from octavo.errors import OctavoError
from services.worker.engine.chunking import next_chunk
from services.worker.engine.ending import (
    end_by_time,
    find_error,
    finish_by_content,
    take_forced,
)
from services.worker.engine.engine_config import EngineConfig
from services.worker.engine.reporter import Reporter
from services.worker.engine.request import Submission
from services.worker.engine.running_sequences import RunningSequences
from services.worker.engine.sequence import Request, Sequence, first_sequences
from services.worker.engine.step_output import Finish, FinishReason, Load, OutputItem
from services.worker.engine.step_plan import Chunk, StepPlan
from services.worker.engine.step_result import ChunkResult, Drawn, TokenLogprob
from services.worker.engine.waiting_queue import WaitingQueue


class Scheduler:
    """All open requests: each of their sequences is either in `waiting` or in `running`."""

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.waiting = WaitingQueue(
            max_outputs=config.max_waiting, max_prompt_tokens=config.max_waiting_prompt_tokens
        )
        self.running = RunningSequences(config)
        self._requests: dict[int, Request] = {}
        self._scheduled: list[tuple[Sequence, Chunk]] = []  # what the step under way does
        self._reporter = Reporter()
        self._num_submissions = 0
        self._num_steps = 0
        self._num_preemptions = 0
        self._num_step_prompt_tokens = 0
        self._recent_queue_ms = 0.0

    @property
    def has_work(self) -> bool:
        """Whether a step would run or report anything."""
        return bool(self._requests or self._reporter)

    @property
    def load(self) -> Load:
        """How busy the engine is now."""
        allocator = self.running.blocks.allocator
        return Load(
            step=self._num_steps,
            num_running=self.running.num_outputs,
            num_waiting=self.waiting.num_outputs,
            num_waiting_prompt_tokens=self.waiting.num_prompt_tokens,
            num_used_blocks=allocator.num_used,
            num_blocks=allocator.num_blocks,
            num_preemptions=self._num_preemptions,
            num_step_prompt_tokens=self._num_step_prompt_tokens,
        )

    # Requests come and go.

    def submit(self, submission: Submission, now: float) -> None:
        """Put it in the queue, or refuse it in the next step's items."""
        assert submission.key not in self._requests, f"key {submission.key} is open"
        num_outputs = submission.num_outputs
        assert num_outputs <= self.config.max_running, f"{num_outputs} outputs can never run"
        request = Request(submission, arrival=self._num_submissions)
        sequences = first_sequences(request)
        refusal = self.waiting.find_refusal(
            num_outputs=num_outputs,
            num_prompt_tokens=len(sequences) * request.num_prompt_tokens,
            wait_ms=self._expected_wait_ms(now),
        )
        if refusal is not None:
            self.refuse(submission, refusal)
            return
        self._num_submissions += 1
        self._requests[request.key] = request
        request.sequences += sequences
        for sequence in sequences:
            self._begin(sequence, now)

    def _begin(self, sequence: Sequence, now: float) -> None:
        """Let it wait, or end it where nothing is to be computed for it."""
        finish = take_forced(sequence, context_limit=self.config.context_limit)
        sequence.finish_ahead = finish
        self.waiting.add(sequence)
        is_complete = sequence.num_reported == len(sequence.token_ids)
        scores_prompt = sequence.request.awaits_prompt_logprobs and sequence.num_pending > 0
        if finish is not None and is_complete and not scores_prompt:
            self._finish(sequence, finish, now)

    def _expected_wait_ms(self, now: float) -> float:
        """What the last to start has waited, or the first of the queue already has, if longer."""
        if len(self.waiting) == 0:
            return self._recent_queue_ms
        waited_s = now - self.waiting.first.request.submission.arrived_at
        return max(self._recent_queue_ms, 1e3 * waited_s)

    def refuse(self, submission: Submission, error: OctavoError) -> None:
        """Report the error in the next step's items; the request is not taken."""
        self._reporter.refuse(submission.key, error)

    def cancel(self, keys: Iterable[int], now: float) -> None:
        """End these requests; their blocks are free at once. Unknown keys have ended already."""
        for key in keys:
            if key in self._requests:
                self._end(self._requests[key], Finish(reason=FinishReason.CANCELLED), now)

    def cancel_output(self, key: int, index: int, now: float) -> None:
        """End one output that has a sequence of its own; another has ended, or has not forked."""
        request = self._requests.get(key)
        for sequence in tuple(request.sequences) if request is not None else ():
            if sequence.indices == (index,):
                self._finish(sequence, Finish(reason=FinishReason.CANCELLED), now)

    # schedule

    def schedule(self, now: float) -> StepPlan:
        """Decide what the next step does."""
        self._num_steps += 1
        self._end_expired(now)
        self._grow()
        self._admit(now)
        self._scheduled = self._deal_budget()
        return StepPlan(
            chunks=tuple(chunk for _, chunk in self._scheduled),
            copies=self.running.blocks.take_copies(),
        )

    def _end_expired(self, now: float) -> None:
        for request in tuple(self._requests.values()):
            end = end_by_time(request, now)
            if end is not None:
                self._end(request, end, now)

    def _grow(self) -> None:
        """Give every running sequence the blocks that its next token needs."""
        for sequence in tuple(self.running):
            while sequence.is_running and not self.running.blocks.complete(sequence):
                self._preempt(self.running.last)

    def _admit(self, now: float) -> None:
        """Start waiting sequences, in order, while the step has tokens left for them."""
        while len(self.waiting) > 0:
            sequence = self.waiting.first
            if self.running.num_tokens_before(sequence) >= self.config.max_step_tokens:
                return
            making_way = self.running.find_room(sequence)
            if making_way is None:
                return
            for other in making_way:
                self._preempt(other)
            self.waiting.remove(sequence)
            self._start(sequence, now)

    def _start(self, sequence: Sequence, now: float) -> None:
        self.running.start(sequence)
        request = sequence.request
        if request.started_at is None:
            request.started_at = now
            self._recent_queue_ms = 1e3 * (now - request.submission.arrived_at)

    def _preempt(self, sequence: Sequence) -> None:
        """Take its blocks away and let it wait; it will compute its tokens again."""
        self.running.stop(sequence)
        sequence.num_computed = 0
        sequence.request.prompt_logprobs.clear()
        sequence.request.num_preemptions += 1
        self._num_preemptions += 1
        self.waiting.add(sequence)

    def _deal_budget(self) -> list[tuple[Sequence, Chunk]]:
        """Decodes first, then chunks of prompts, until the step's tokens are spent."""
        budget = self.config.max_step_tokens
        scheduled = []
        self._num_step_prompt_tokens = 0
        for sequence in sorted(self.running, key=lambda running: running.num_pending > 1):
            count = min(sequence.num_pending, budget)
            if count == 0:
                break
            if sequence.num_pending > 1:
                self._num_step_prompt_tokens += count
            scheduled.append((sequence, next_chunk(sequence, count)))
            budget -= count
        return scheduled

    # postprocess

    def postprocess(self, results: Iterable[ChunkResult], now: float) -> tuple[OutputItem, ...]:
        """Take in what the plan's chunks gave, in their order; returns what is new since the last
        step.
        """
        for (sequence, chunk), result in zip(self._scheduled, results, strict=True):
            if sequence.is_running:  # else its request has failed, with another output in this step
                sequence.num_computed = chunk.end
                self._take(sequence, chunk, result, now)
        self._scheduled = []
        if not self.running:
            self.check()
        return self._reporter.take()

    def _take(self, sequence: Sequence, chunk: Chunk, result: ChunkResult, now: float) -> None:
        error = find_error(chunk, result)
        if error is not None:
            self._end(sequence.request, error, now)
            return
        logprobs = sequence.request.keep_prompt_logprobs(result.scores)
        if result.drawn:
            for output, drawn in zip(self.running.fork(sequence), result.drawn, strict=True):
                self._take_drawn(output, drawn, logprobs, now)
            return
        token_ids = sequence.report(chunk.end + 1, now)
        if sequence.finish_ahead is not None and sequence.num_pending == 0:
            self._finish(sequence, sequence.finish_ahead, now, token_ids, logprobs)
        elif token_ids or sequence.request.may_start:
            self._reporter.progress(sequence, token_ids, logprobs)

    def _take_drawn(
        self, sequence: Sequence, drawn: Drawn, logprobs: tuple[TokenLogprob, ...], now: float
    ) -> None:
        """Take the token drawn for one output; `logprobs` are those of forced ids before it."""
        assert isinstance(drawn.token_id, int), "find_error sees the others"
        sequence.token_ids.append(drawn.token_id)
        if drawn.logprob is not None:
            logprobs += (drawn.logprob,)
        token_ids = sequence.report(len(sequence.token_ids), now)
        finish = finish_by_content(sequence, context_limit=self.config.context_limit)
        if finish is None:
            self._reporter.progress(sequence, token_ids, logprobs)
        else:
            self._finish(sequence, finish, now, token_ids, logprobs)

    def check(self) -> None:
        """Assert that blocks, places and queue are what the open requests make of them."""
        self.running.check()
        sequences = [one for request in self._requests.values() for one in request.sequences]
        known = sorted(one.precedence for one in sequences)
        placed = sorted(one.precedence for one in (*self.running, *self.waiting))
        assert known == placed, f"{known} are open, {placed} run or wait"
        indices = [(one.request.key, index) for one in sequences for index in one.indices]
        assert len(set(indices)) == len(indices), f"{indices} has an output twice"

    def _end(self, request: Request, end: Finish | OctavoError, now: float) -> None:
        """End all that is open of the request."""
        if isinstance(end, Finish):
            for sequence in tuple(request.sequences):
                self._finish(sequence, end, now)
            return
        for sequence in tuple(request.sequences):
            self._forget(sequence)
        self._reporter.fail(request, end, now)

    def _finish(
        self,
        sequence: Sequence,
        finish: Finish,
        now: float,
        token_ids: tuple[int, ...] = (),
        logprobs: tuple[TokenLogprob, ...] = (),
    ) -> None:
        self._forget(sequence)
        self._reporter.finish(sequence, finish, now, token_ids, logprobs)

    def _forget(self, sequence: Sequence) -> None:
        """Free what it holds, and the request's key with its last sequence."""
        request = sequence.request
        request.sequences.remove(sequence)
        if not request.sequences:
            del self._requests[request.key]
        if sequence.is_running:
            self.running.stop(sequence)
        else:
            self.waiting.remove(sequence)
