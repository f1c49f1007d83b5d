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
from collections.abc import Iterable, Sequence

from octavo.errors import OctavoError
from services.worker.engine.block_allocator import BlockAllocator
from services.worker.engine.ending import (
    end_by_time,
    finish_by_content,
    not_drawn_error,
    timings_of,
)
from services.worker.engine.engine_config import EngineConfig
from services.worker.engine.request import Request, Submission, token_array
from services.worker.engine.step_output import Finish, FinishReason, Load, OutputItem
from services.worker.engine.step_plan import Chunk, Draw, History, StepPlan
from services.worker.engine.step_result import NotDrawn
from services.worker.engine.waiting_queue import WaitingQueue


class Scheduler:
    """All open requests: each is either in `waiting` or in `running`."""

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.allocator = BlockAllocator(config.num_blocks)
        self.waiting = WaitingQueue(
            max_requests=config.max_waiting, max_prompt_tokens=config.max_waiting_prompt_tokens
        )
        self.running: list[Request] = []  # ordered by precedence
        self._requests: dict[int, Request] = {}
        self._scheduled: list[tuple[Request, Chunk]] = []  # what the step under way does
        self._items: list[OutputItem] = []  # what the next step reports
        self._num_submissions = 0
        self._num_steps = 0
        self._num_preemptions = 0
        self._recent_queue_ms = 0.0

    @property
    def has_work(self) -> bool:
        """Whether a step would run or report anything."""
        return bool(self._requests or self._items)

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
            len(submission.prompt_ids), recent_queue_ms=self._recent_queue_ms
        )
        if refusal is not None:
            self.refuse(submission, refusal)
            return
        request = Request(submission, arrival=self._num_submissions)
        self._num_submissions += 1
        self._requests[request.key] = request
        self.waiting.add(request)
        finish = finish_by_content(request, context_limit=self.config.context_limit)
        if finish is not None:
            self._end(request, finish, now)

    def refuse(self, submission: Submission, error: OctavoError) -> None:
        """Report the error in the next step's items; the request is not taken."""
        self._items.append(OutputItem(key=submission.key, error=error))

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
        for request in tuple(self.running):
            while request.is_running and not self._allocate_for(request):
                self._preempt(self.running[-1])

    def _allocate_for(self, request: Request) -> bool:
        """Complete its block table for all of its tokens, if enough blocks are free."""
        num_missing = self._num_missing_blocks(request)
        if num_missing > self.allocator.num_free:
            return False
        request.block_table += self.allocator.allocate(num_missing)
        return True

    def _num_missing_blocks(self, request: Request) -> int:
        return self.config.num_blocks_for(len(request.token_ids)) - len(request.block_table)

    def _admit(self, now: float) -> None:
        """Start waiting requests, in order, while the step has tokens left for them."""
        while len(self.waiting) > 0:
            request = self.waiting.first
            if self._num_tokens_before(request) >= self.config.max_step_tokens:
                return
            if not self._make_room(request):
                return
            self.waiting.remove(request)
            self._start(request, now)

    def _num_tokens_before(self, request: Request) -> int:
        """Tokens that the budget is dealt to before it: all decodes, and prompts that precede."""
        return sum(
            other.num_pending
            for other in self.running
            if other.num_pending == 1 or other.precedence < request.precedence
        )

    def _make_room(self, request: Request) -> bool:
        """Whether it can start, once running requests of lower priority have made way for it.

        None makes way unless that is enough.
        """
        num_staying = len(self.running)
        num_free = self.allocator.num_free
        while not self._has_room(request, num_staying, num_free):
            if num_staying == 0:
                return False
            last = self.running[num_staying - 1]
            if last.submission.priority >= request.submission.priority:
                return False
            num_staying -= 1
            num_free += len(last.block_table)
        for _ in range(len(self.running) - num_staying):
            self._preempt(self.running[-1])
        return True

    def _has_room(self, request: Request, num_running: int, num_free: int) -> bool:
        """Whether a place and blocks are left for it beside `num_running` others.

        One more block for each of them stays free: else it would start only to be preempted by
        their next tokens.
        """
        if num_running >= self.config.max_running:
            return False
        return self._num_missing_blocks(request) + num_running <= num_free

    def _start(self, request: Request, now: float) -> None:
        allocated = self._allocate_for(request)
        assert allocated, f"request {request.key} starts without blocks"
        if request.started_at is None:
            request.started_at = now
            self._recent_queue_ms = 1e3 * (now - request.submission.arrived_at)
        request.is_running = True
        bisect.insort(self.running, request, key=lambda other: other.precedence)

    def _preempt(self, request: Request) -> None:
        """Take its blocks away and let it wait; it will compute its tokens again."""
        self._stop_running(request)
        request.num_computed = 0
        request.num_preemptions += 1
        self._num_preemptions += 1
        self.waiting.add(request)

    def _stop_running(self, request: Request) -> None:
        self.running.remove(request)
        request.is_running = False
        self.allocator.release(request.block_table)
        request.block_table = []

    def _deal_budget(self) -> list[tuple[Request, Chunk]]:
        """Decodes first, then chunks of prompts, until the step's tokens are spent."""
        budget = self.config.max_step_tokens
        scheduled = []
        for request in sorted(self.running, key=lambda running: running.num_pending > 1):
            count = min(request.num_pending, budget)
            if count == 0:
                break
            scheduled.append((request, _next_chunk(request, count)))
            budget -= count
        return scheduled

    # postprocess

    def postprocess(self, drawn: Sequence[int | NotDrawn], now: float) -> tuple[OutputItem, ...]:
        """Take in what the step has drawn, in the order of the plan's draws; returns what is new
        since the last step.
        """
        remaining = iter(drawn)
        for request, chunk in self._scheduled:
            request.num_computed = chunk.end
            if chunk.draw is not None:
                self._take(request, next(remaining), now)
            elif not request.is_reported:
                self._report(request)
        assert next(remaining, None) is None, "more ids than draws"
        self._scheduled = []
        if not self.running:
            self.allocator.check([])
        items, self._items = tuple(self._items), []
        return items

    def _take(self, request: Request, token_id: int | NotDrawn, now: float) -> None:
        if isinstance(token_id, NotDrawn):
            self._end(request, not_drawn_error(request, token_id), now)
            return
        request.append(token_id, now)
        finish = finish_by_content(request, context_limit=self.config.context_limit)
        if finish is None:
            self._report(request, (token_id,))
        else:
            self._end(request, finish, now, (token_id,))

    def _report(self, request: Request, token_ids: tuple[int, ...] = ()) -> None:
        self._items.append(
            OutputItem(key=request.key, token_ids=token_ids, started=not request.is_reported)
        )
        request.is_reported = True

    def _end(
        self,
        request: Request,
        end: Finish | OctavoError,
        now: float,
        token_ids: tuple[int, ...] = (),
    ) -> None:
        """Forget the request, free what it holds, and report its end."""
        del self._requests[request.key]
        if request.is_running:
            self._stop_running(request)
        else:
            self.waiting.remove(request)
        self._items.append(
            OutputItem(
                key=request.key,
                token_ids=token_ids,
                started=request.started_at is not None and not request.is_reported,
                finish=end if isinstance(end, Finish) else None,
                error=end if isinstance(end, OctavoError) else None,
                timings=timings_of(request, now),
            )
        )


def _next_chunk(request: Request, count: int) -> Chunk:
    """The next `count` pending tokens; the one after the last of them is drawn."""
    start, end = request.num_computed, request.num_computed + count
    draw = None
    if end == len(request.token_ids):
        draw = _next_draw(request)
    return Chunk(
        token_ids=tuple(request.token_ids[start:end]),
        start=start,
        block_table=tuple(request.block_table),
        draw=draw,
    )


def _next_draw(request: Request) -> Draw:
    """How the token after all that there are is drawn."""
    submission = request.submission
    rules, history = submission.sampling.rules, None
    if rules is not None and rules.look_back:
        history = History(
            token_ids=request.token_ids[:], num_prompt_tokens=request.num_prompt_tokens
        )
    may_stop = request.num_generated >= submission.min_tokens
    return Draw(
        sampling=submission.sampling,
        position=len(request.token_ids),
        history=history,
        forbidden_ids=None if may_stop else token_array(submission.stop_ids),
    )
