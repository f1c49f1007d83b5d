"""When a request that comes now would start, and when it would end.

Each running output makes one token a step. A new request needs a place among them, which the first
to end leave it, and a share of the steps' tokens for its prompt; other prompts make its own steps
longer. All is counted as the front has seen it: a request waits until its first item has come.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from octavo.v1 import worker_pb2
from services.worker.front.pace import Pace
from services.worker.front.queue_plan import QueuePlan
from services.worker.link.request_end import ends_request

# From here on KV blocks, not places, limit how many run.
_BLOCKS_SCARCE = 0.9


@dataclass(slots=True)
class _Open:
    """A request that was taken."""

    num_outputs: int
    num_prompt_tokens: int
    max_tokens: int | None  # of each output
    expected_tokens: float  # of each output
    num_generated: int = 0  # of all outputs
    is_running: bool = False

    @property
    def generated_tokens(self) -> float:
        """What each output has, on average."""
        return self.num_generated / self.num_outputs

    @property
    def remaining_steps(self) -> float:
        """Steps until it ends, by what is expected of it."""
        return max(1.0, self.expected_tokens - self.generated_tokens)

    def join(self, queue: QueuePlan) -> None:
        """It waits after those that are in the queue."""
        queue.add(self.num_outputs, self.num_prompt_tokens, self.expected_tokens)


class Forecast:
    """The open requests by their keys in the engine, and what is known of the group's pace."""

    def __init__(self, *, max_running: int, max_step_tokens: int) -> None:
        self.num_waiting = 0  # outputs
        self.num_waiting_prompt_tokens = 0
        self._max_running = max_running
        self._max_step_tokens = max_step_tokens
        self._pace = Pace()
        self._open: dict[int, _Open] = {}
        self._load = worker_pb2.Load()
        self._stepped_at = 0.0
        self._known_queue: QueuePlan | None = None  # None: it has changed

    @property
    def num_outputs(self) -> int:
        """Counts the outputs that wait or run."""
        return sum(one.num_outputs for one in self._open.values())

    def start_s(self, num_prompt_tokens: int) -> float:
        """Seconds until a prompt of this length would have its first token."""
        return self._seconds(self._queue.start(1, num_prompt_tokens), num_prompt_tokens, 1)

    def end_s(self, submit: worker_pb2.Submit) -> float:
        """Seconds until the request would have ended."""
        num_outputs, num_prompt_tokens = max(1, submit.sampling.n), len(submit.prompt_token_ids)
        start = self._queue.start(num_outputs, num_prompt_tokens)
        num_steps = self._pace.output_tokens(_max_tokens(submit))
        others = num_steps * self._prompt_tokens_per_step(num_outputs)
        return self._seconds(start + num_steps, num_prompt_tokens + others, num_outputs)

    def end_alone_s(self, submit: worker_pb2.Submit) -> float | None:
        """Seconds that the request would take alone, None where that is not known."""
        step_s, num_prompt_tokens = self._pace.alone_step_s, len(submit.prompt_token_ids)
        if step_s is None:
            return None
        steps = 1 + num_prompt_tokens / self._max_step_tokens
        steps += self._pace.output_tokens(_max_tokens(submit))
        return step_s * steps + self._pace.prompt_token_s * num_prompt_tokens

    def note_submitted(self, key: int, submit: worker_pb2.Submit) -> None:
        """The request was taken."""
        self._open[key] = opened = _Open(
            num_outputs=max(1, submit.sampling.n),
            num_prompt_tokens=len(submit.prompt_token_ids),
            max_tokens=_max_tokens(submit),
            expected_tokens=self._pace.output_tokens(_max_tokens(submit)),
        )
        self.num_waiting += opened.num_outputs
        self.num_waiting_prompt_tokens += opened.num_prompt_tokens
        if self._known_queue is not None:
            opened.join(self._known_queue)

    def note_response(self, response: worker_pb2.RunResponse, now: float) -> None:
        """The ranks have made a step; `now` is on time.monotonic()."""
        if self._load.running:  # else the group was idle in between
            num_prompt_tokens = response.load.step_prompt_tokens
            self._pace.note_step(now - self._stepped_at, self._load.running, num_prompt_tokens)
        self._known_queue = None
        self._stepped_at, self._load = now, response.load
        for item in response.items:
            self._note_item(item)

    def forget(self, keys: Iterable[int]) -> None:
        """Nobody waits for these any more."""
        self._known_queue = None
        for key in keys:
            if (opened := self._open.pop(key, None)) is not None:
                self._leave_queue(opened)

    def clear(self) -> None:
        """The ranks are lost, and all requests with them."""
        self.forget(list(self._open))
        self._load = worker_pb2.Load()

    def _note_item(self, item: worker_pb2.RunItem) -> None:
        opened = self._open.get(item.key)
        if opened is None:
            return
        if item.HasField("start"):
            self._leave_queue(opened)
        opened.num_generated += len(item.token_ids)
        if ends_request(item):
            self._learn(opened, failed=item.HasField("error"))
            self.forget([item.key])

    def _learn(self, opened: _Open, *, failed: bool) -> None:
        """Of an output that failed, its length is known only where it is more than expected."""
        tokens = opened.generated_tokens
        if opened.is_running and not (failed and tokens < opened.expected_tokens):
            self._pace.note_output(tokens, opened.max_tokens)

    def _leave_queue(self, opened: _Open) -> None:
        if not opened.is_running:
            opened.is_running = True
            self.num_waiting -= opened.num_outputs
            self.num_waiting_prompt_tokens -= opened.num_prompt_tokens

    @property
    def _queue(self) -> QueuePlan:
        """That of this moment: between two steps many ask, and few are taken."""
        if self._known_queue is None:
            self._known_queue = self._played_forward()
        return self._known_queue

    def _played_forward(self) -> QueuePlan:
        """All that are open, in their order."""
        running = [one for one in self._open.values() if one.is_running]
        lanes = [steps for one in running for steps in [one.remaining_steps] * one.num_outputs]
        num_places = self._max_running
        if lanes and self._blocks_are_scarce():
            num_places = len(lanes)
        queue = QueuePlan(
            lanes,
            num_free=max(0, num_places - len(lanes)),
            prompt_tokens_per_step=max(1, self._max_step_tokens - len(lanes)),
        )
        for opened in self._open.values():
            if not opened.is_running:
                opened.join(queue)
        return queue

    def _seconds(self, num_steps: float, num_prompt_tokens: float, num_outputs: int) -> float:
        """The time of so many steps, with these tokens of prompts and those that wait before."""
        num_running = min(self.num_outputs + num_outputs, self._max_running)
        prompt_tokens = self._queue.num_prompt_tokens + num_prompt_tokens
        step_s, prompt_token_s = self._pace.step_s(num_running), self._pace.prompt_token_s
        return num_steps * step_s + prompt_tokens * prompt_token_s

    def _prompt_tokens_per_step(self, num_outputs: int) -> float:
        """Those of others that a request's steps will have beside it: each place that becomes free
        is taken by a prompt like the others', where there are more requests than places.
        """
        if self.num_outputs + num_outputs <= self._max_running:
            return self._pace.prompt_tokens_per_step
        prompt_tokens = sum(one.num_prompt_tokens for one in self._open.values())
        tokens = sum(one.num_outputs * max(1.0, one.expected_tokens) for one in self._open.values())
        return min(self._max_running * prompt_tokens / tokens, self._max_step_tokens)

    def _blocks_are_scarce(self) -> bool:
        load = self._load
        return load.waiting > 0 and load.kv_blocks_used > _BLOCKS_SCARCE * load.kv_blocks_total


def _max_tokens(submit: worker_pb2.Submit) -> int | None:
    return submit.max_tokens if submit.HasField("max_tokens") else None
