"""A worker group in simulated time: a queue, places, and steps as long as their tokens take."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from octavo.errors import ResourceExhaustedError
from octavo.v1 import worker_pb2
from services.worker.front.admission import Admission, Limits

LIMITS = Limits(
    max_running=64, max_step_tokens=512, max_waiting=256, max_waiting_prompt_tokens=10**9
)
# As the default model's on two cores: batches of 32 are not yet at the best tokens a second.
STEP_S = 0.03
ROW_S = 0.0015


@dataclass
class Job:
    """A request; `deadline_at` in simulated seconds."""

    key: int
    submit: worker_pb2.Submit
    num_left: int  # ids that it will yet make
    deadline_at: float
    num_pending: int = 0
    is_started: bool = False

    def __post_init__(self) -> None:
        self.num_pending = len(self.submit.prompt_token_ids)


@dataclass
class Outcome:
    """What became of the requests of one load; `ends_at` are of those that ended in time."""

    ends_at: list[float] = field(default_factory=list)
    num_refused: int = 0
    num_expired: int = 0
    longest_queue: int = 0


class SimulatedWorker:
    """Decides as the engine does, in order of arrival. Without `admission` it takes everything."""

    def __init__(
        self, *, admission: bool = True, shortest_prompt: int = 5, prompt_token_s: float = 0.0007
    ) -> None:
        self.now = 0.0
        self.slowness = 1.0  # of every step
        self.admission = Admission(LIMITS)
        self._has_admission = admission
        self._keys = itertools.count(1)
        self._rng = random.Random(0)
        self._shortest_prompt = shortest_prompt
        self._prompt_token_s = prompt_token_s
        self._waiting: list[Job] = []
        self._running: list[Job] = []
        self._num_prompt_tokens = 0  # of the last step

    def closed_loop(self, num_clients: int, seconds: float, deadline_s: float) -> Outcome:
        """Clients of which each has one request open at a time."""
        outcome, end = Outcome(), self.now + seconds
        while self.now < end:
            while self._num_open < num_clients and self._submit(deadline_s, outcome):
                pass
            self._step(outcome)
        self._drain(outcome)
        return outcome

    def open_loop(self, rate: float, seconds: float, deadline_s: float) -> Outcome:
        """Requests at random times, `rate` a second, however the worker is."""
        outcome = Outcome()
        for arrival in self._arrivals(rate, self.now + seconds):
            while self.now < arrival:
                if self._num_open:
                    self._step(outcome)
                else:
                    self.now = arrival
            self._submit(deadline_s - (self.now - arrival), outcome)
            outcome.longest_queue = max(outcome.longest_queue, len(self._waiting))
        self._drain(outcome)
        return outcome

    @property
    def _num_open(self) -> int:
        return len(self._waiting) + len(self._running)

    def _arrivals(self, rate: float, end: float) -> Iterator[float]:
        at = self.now + self._rng.expovariate(rate)
        while at < end:
            yield at
            at += self._rng.expovariate(rate)

    def _submit(self, deadline_s: float, outcome: Outcome) -> bool:
        num_prompt_tokens = self._prompt_length()
        submit = worker_pb2.Submit(
            prompt_token_ids=[1] * num_prompt_tokens,
            max_tokens=64,
            deadline_ms=max(1, round(1e3 * deadline_s)),
        )
        try:
            if self._has_admission:
                self.admission.check(submit)
        except ResourceExhaustedError:
            outcome.num_refused += 1
            return False
        key = next(self._keys)
        self.admission.forecast.note_submitted(key, submit)
        self._waiting.append(Job(key, submit, 64, self.now + deadline_s))
        return True

    def _prompt_length(self) -> int:
        shortest, longest = math.log(self._shortest_prompt), math.log(400)
        return round(math.exp(self._rng.uniform(shortest, longest)))

    def _drain(self, outcome: Outcome) -> None:
        while self._num_open:
            self._step(outcome)

    def _step(self, outcome: Outcome) -> None:
        response = worker_pb2.RunResponse()
        self._end_expired(response, outcome)
        while self._may_start():
            self._running.append(self._waiting.pop(0))
        for job in self._run():
            self._report(job, response, outcome)
        response.load.running, response.load.waiting = len(self._running), len(self._waiting)
        response.load.step_prompt_tokens = self._num_prompt_tokens
        self.admission.forecast.note_response(response, self.now)

    def _may_start(self) -> bool:
        num_pending = sum(job.num_pending for job in self._running)
        has_place = len(self._running) < LIMITS.max_running
        return bool(self._waiting) and has_place and num_pending < LIMITS.max_step_tokens

    def _run(self) -> Sequence[Job]:
        """Those that have their next id after this step: decodes come before prompts."""
        budget, rows, prompt_tokens, ready = LIMITS.max_step_tokens, 0, 0, []
        is_prompt: Callable[[Job], bool] = lambda job: job.num_pending > 1  # noqa: E731
        for job in sorted(self._running, key=is_prompt):
            count = min(job.num_pending, budget)
            budget -= count
            rows, prompt_tokens = rows + (count == 1), prompt_tokens + count * is_prompt(job)
            job.num_pending -= count
            if job.num_pending == 0:
                job.num_pending = 1
                ready.append(job)
        self._num_prompt_tokens = prompt_tokens
        seconds = STEP_S + ROW_S * rows + self._prompt_token_s * prompt_tokens
        self.now += self.slowness * seconds
        return ready

    def _report(self, job: Job, response: worker_pb2.RunResponse, outcome: Outcome) -> None:
        item = response.items.add(key=job.key, token_ids=[1])
        if not job.is_started:
            job.is_started = True
            item.start.SetInParent()
        job.num_left -= 1
        if job.num_left == 0:
            item.finish.reason = worker_pb2.RUN_FINISH_REASON_LENGTH
            item.timings.SetInParent()
            self._running.remove(job)
            if self.now < job.deadline_at:
                outcome.ends_at.append(self.now)

    def _end_expired(self, response: worker_pb2.RunResponse, outcome: Outcome) -> None:
        for jobs in (self._waiting, self._running):
            for job in [job for job in jobs if job.deadline_at <= self.now]:
                jobs.remove(job)
                outcome.num_expired += 1
                item = response.items.add(key=job.key)
                item.error.SetInParent()
                item.timings.SetInParent()
