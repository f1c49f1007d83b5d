"""Who runs in the next step, who waits, who goes, and what became of each.

Three rules decide everything. Precedence: the highest priority first, then who came first. One
budget of tokens for a step: decodes first, then chunks of prompts. Blocks: a request holds those
of all its tokens from the step in which it starts; when a decode finds none free, the running
request of the lowest precedence gives all of its blocks back and begins anew later ("preemption
by recompute"), keeping what it has generated.

Nobody starves within a priority: the queue's first is never overtaken, the running request of the
highest precedence is never preempted, and every decode has its place in every step. A request of a
higher priority takes the place of lower ones even if they run.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable

from octavo.errors import OctavoError
from services.worker.engine.block_allocator import BlockAllocator
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
from services.worker.engine.sequence import Request, Sequence
from services.worker.engine.step_output import Finish, FinishReason, Load, OutputItem
from services.worker.engine.step_plan import Chunk, StepPlan
from services.worker.engine.step_result import ChunkResult, TokenLogprob
from services.worker.engine.waiting_queue import WaitingQueue


class Scheduler:
    """All open requests: each of their sequences is either in `waiting` or in `running`."""

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.allocator = BlockAllocator(config.num_blocks)
        self.waiting = WaitingQueue(
            max_requests=config.max_waiting, max_prompt_tokens=config.max_waiting_prompt_tokens
        )
        self.running: list[Sequence] = []  # ordered by precedence
        self._requests: dict[int, Request] = {}
        self._scheduled: list[tuple[Sequence, Chunk]] = []  # what the step under way does
        self._reporter = Reporter()
        self._num_submissions = 0
        self._num_steps = 0
        self._num_preemptions = 0
        self._recent_queue_ms = 0.0

    @property
    def has_work(self) -> bool:
        """Whether a step would run or report anything."""
        return bool(self._requests or self._reporter)

    @property
    def load(self) -> Load:
        """How busy the engine is now."""
        return Load(
            step=self._num_steps,
            num_running=len(self.running),
            num_waiting=len(self.waiting),
            num_waiting_prompt_tokens=self.waiting.num_prompt_tokens,
            num_used_blocks=self.allocator.num_used,
            num_blocks=self.allocator.num_blocks,
            num_preemptions=self._num_preemptions,
        )

    # Requests come and go.

    def submit(self, submission: Submission, now: float) -> None:
        """Put it in the queue, or refuse it in the next step's items."""
        assert submission.key not in self._requests, f"key {submission.key} is open"
        refusal = self.waiting.find_refusal(
            len(submission.prompt_ids), wait_ms=self._expected_wait_ms(now)
        )
        if refusal is not None:
            self.refuse(submission, refusal)
            return
        request = Request(submission, arrival=self._num_submissions)
        self._num_submissions += 1
        self._requests[request.key] = request
        self._begin(request, now)

    def _begin(self, request: Request, now: float) -> None:
        """Let its sequence wait, or end it where nothing is to be computed for it."""
        sequence = Sequence(request)
        request.sequences.append(sequence)
        finish = take_forced(sequence, context_limit=self.config.context_limit)
        sequence.finish_ahead = finish
        self.waiting.add(sequence)
        is_complete = sequence.num_reported == len(sequence.token_ids)
        if finish is not None and is_complete and not self._has_prompt_to_score(sequence):
            self._finish(sequence, finish, now)

    def _has_prompt_to_score(self, sequence: Sequence) -> bool:
        return sequence.request.awaits_prompt_logprobs and sequence.num_pending > 0

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

    # schedule

    def schedule(self, now: float) -> StepPlan:
        """Decide what the next step does."""
        self._num_steps += 1
        self._end_expired(now)
        self._grow()
        self._admit(now)
        self._scheduled = self._deal_budget()
        return StepPlan(chunks=tuple(chunk for _, chunk in self._scheduled))

    def _end_expired(self, now: float) -> None:
        for request in tuple(self._requests.values()):
            end = end_by_time(request, now)
            if end is not None:
                self._end(request, end, now)

    def _grow(self) -> None:
        """Give every running request the block that its next token needs."""
        for sequence in tuple(self.running):
            while sequence.is_running and not self._allocate_for(sequence):
                self._preempt(self.running[-1])

    def _allocate_for(self, sequence: Sequence) -> bool:
        """Complete its block table for all of its tokens, if enough blocks are free."""
        num_missing = self._num_missing_blocks(sequence)
        if num_missing > self.allocator.num_free:
            return False
        sequence.block_table += self.allocator.allocate(num_missing)
        return True

    def _num_missing_blocks(self, sequence: Sequence) -> int:
        return self.config.num_blocks_for(len(sequence.token_ids)) - len(sequence.block_table)

    def _admit(self, now: float) -> None:
        """Start waiting requests, in order, while the step has tokens left for them."""
        while len(self.waiting) > 0:
            sequence = self.waiting.first
            if self._num_tokens_before(sequence) >= self.config.max_step_tokens:
                return
            if not self._make_room(sequence):
                return
            self.waiting.remove(sequence)
            self._start(sequence, now)

    def _num_tokens_before(self, sequence: Sequence) -> int:
        """Tokens that the budget is dealt to before it: all decodes, and prompts that precede."""
        return sum(
            other.num_pending
            for other in self.running
            if other.num_pending == 1 or other.precedence < sequence.precedence
        )

    def _make_room(self, sequence: Sequence) -> bool:
        """Whether it can start, once running requests of lower priority have made way for it.

        None makes way unless that is enough.
        """
        num_staying = len(self.running)
        num_free = self.allocator.num_free
        while not self._has_room(sequence, num_staying, num_free):
            if num_staying == 0:
                return False
            last = self.running[num_staying - 1]
            if last.request.submission.priority >= sequence.request.submission.priority:
                return False
            num_staying -= 1
            num_free += len(last.block_table)
        for _ in range(len(self.running) - num_staying):
            self._preempt(self.running[-1])
        return True

    def _has_room(self, sequence: Sequence, num_running: int, num_free: int) -> bool:
        """Whether a place and blocks are left for it beside `num_running` others.

        One more block for each of them stays free: else it would start only to be preempted by
        their next tokens.
        """
        if num_running >= self.config.max_running:
            return False
        return self._num_missing_blocks(sequence) + num_running <= num_free

    def _start(self, sequence: Sequence, now: float) -> None:
        allocated = self._allocate_for(sequence)
        request = sequence.request
        assert allocated, f"request {request.key} starts without blocks"
        if request.started_at is None:
            request.started_at = now
            self._recent_queue_ms = 1e3 * (now - request.submission.arrived_at)
        sequence.is_running = True
        bisect.insort(self.running, sequence, key=lambda other: other.precedence)

    def _preempt(self, sequence: Sequence) -> None:
        """Take its blocks away and let it wait; it will compute its tokens again."""
        self._stop_running(sequence)
        sequence.num_computed = 0
        sequence.request.prompt_logprobs.clear()
        sequence.request.num_preemptions += 1
        self._num_preemptions += 1
        self.waiting.add(sequence)

    def _stop_running(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        sequence.is_running = False
        self.allocator.release(sequence.block_table)
        sequence.block_table = []

    def _deal_budget(self) -> list[tuple[Sequence, Chunk]]:
        """Decodes first, then chunks of prompts, until the step's tokens are spent."""
        budget = self.config.max_step_tokens
        scheduled = []
        for sequence in sorted(self.running, key=lambda running: running.num_pending > 1):
            count = min(sequence.num_pending, budget)
            if count == 0:
                break
            scheduled.append((sequence, next_chunk(sequence, count)))
            budget -= count
        return scheduled

    # postprocess

    def postprocess(self, results: Iterable[ChunkResult], now: float) -> tuple[OutputItem, ...]:
        """Take in what the plan's chunks gave, in their order; returns what is new since the last
        step.
        """
        for (sequence, chunk), result in zip(self._scheduled, results, strict=True):
            sequence.num_computed = chunk.end
            self._take(sequence, chunk, result, now)
        self._scheduled = []
        if not self.running:
            self.allocator.check([])
        return self._reporter.take()

    def _take(self, sequence: Sequence, chunk: Chunk, result: ChunkResult, now: float) -> None:
        error = find_error(chunk, result)
        if error is not None:
            self._end(sequence.request, error, now)
            return
        request = sequence.request
        logprobs = request.keep_prompt_logprobs(result.scores)
        finish = sequence.finish_ahead if sequence.num_pending == 0 else None
        for drawn in result.drawn:
            assert isinstance(drawn.token_id, int), "seen above"
            sequence.token_ids.append(drawn.token_id)
            logprobs += () if drawn.logprob is None else (drawn.logprob,)
            finish = finish_by_content(sequence, context_limit=self.config.context_limit)
        token_ids = sequence.report(chunk.end + 1, now)
        if finish is not None:
            self._finish(sequence, finish, now, token_ids, logprobs)
        elif token_ids or (request.may_start and not request.is_reported):
            self._reporter.progress(sequence, token_ids, logprobs)

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
            self._stop_running(sequence)
        else:
            self.waiting.remove(sequence)
