"""What the front expects of the group from what it has seen."""

from __future__ import annotations

import pytest

from octavo.v1 import worker_pb2
from services.worker.front.forecast import Forecast
from services.worker.front.pace import Pace

STEP_S = 0.1


def submit(max_tokens: int = 10, n: int = 1) -> worker_pb2.Submit:
    sampling = worker_pb2.ResolvedSampling(n=n)
    return worker_pb2.Submit(prompt_token_ids=[1], max_tokens=max_tokens, sampling=sampling)


class Group:
    """A forecast and the responses that it hears: one each tenth of a second."""

    def __init__(self, *, max_running: int = 2, num_steps: int = 2) -> None:
        self.forecast = Forecast(max_running=max_running, max_step_tokens=512)
        self.load = worker_pb2.Load(running=1)
        self._now = 0.0
        for _ in range(num_steps):
            self.step()

    def step(self, *items: worker_pb2.RunItem) -> None:
        self._now += STEP_S
        self.forecast.note_response(worker_pb2.RunResponse(items=items, load=self.load), self._now)

    def run(self, key: int, num_tokens: int, submitted: worker_pb2.Submit | None = None) -> None:
        """A request that has made some tokens."""
        self.forecast.note_submitted(key, submitted or submit())
        start = worker_pb2.RunStart()
        self.step(worker_pb2.RunItem(key=key, start=start, token_ids=[1] * num_tokens))

    def start_steps(self) -> float:
        return self.forecast.start_s(1) / STEP_S


def test_a_free_place_is_taken_with_the_next_step() -> None:
    group = Group()
    group.run(1, num_tokens=3)
    assert group.start_steps() == pytest.approx(1, abs=0.1)
    assert group.forecast.end_s(submit(20)) / STEP_S == pytest.approx(21, abs=0.1)


def test_the_next_place_comes_from_the_next_to_end() -> None:
    group = Group()
    group.run(1, num_tokens=3)
    group.run(2, num_tokens=6)
    assert group.start_steps() == pytest.approx(4, abs=0.1)
    group.forecast.note_submitted(3, submit(10))
    assert group.start_steps() == pytest.approx(7, abs=0.1)
    group.forecast.note_submitted(4, submit(10))
    assert group.start_steps() == pytest.approx(4 + 10, abs=0.1)


def test_each_output_takes_a_place() -> None:
    group = Group()
    group.run(1, 4, submit(10, n=2))  # two of each output
    assert group.start_steps() == pytest.approx(8, abs=0.1)


def test_where_blocks_are_scarce_there_are_as_many_places_as_run() -> None:
    group = Group(max_running=64)
    group.run(1, num_tokens=3)
    assert group.start_steps() == pytest.approx(1, abs=0.1)
    group.load = worker_pb2.Load(running=1, waiting=1, kv_blocks_used=95, kv_blocks_total=100)
    group.step()
    assert group.start_steps() == pytest.approx(7, abs=0.1)


def test_long_prompts_before_it_take_their_steps() -> None:
    group = Group(max_running=64)
    waiting = worker_pb2.Submit(prompt_token_ids=[1] * 5_120, max_tokens=1)
    group.forecast.note_submitted(1, waiting)
    assert group.start_steps() == pytest.approx(11, abs=0.1)


def test_what_ends_leaves_nothing() -> None:
    group = Group()
    group.run(1, num_tokens=1)
    group.run(2, num_tokens=1)
    group.forecast.note_submitted(3, submit())
    group.forecast.note_submitted(4, submit())
    finish = worker_pb2.RunFinish(reason=worker_pb2.RUN_FINISH_REASON_LENGTH)
    timings = worker_pb2.RunTimings()
    group.step(worker_pb2.RunItem(key=1, finish=finish, timings=timings))
    group.step(worker_pb2.RunItem(key=3, error=worker_pb2.RunError(code=4)))
    group.forecast.forget([2, 99])
    assert (group.forecast.num_outputs, group.forecast.num_waiting) == (1, 1)
    group.forecast.clear()
    forecast = group.forecast
    assert (forecast.num_outputs, forecast.num_waiting, forecast.num_waiting_prompt_tokens) == (
        0,
    ) * 3


def test_time_without_work_is_no_step() -> None:
    group = Group()
    group.load = worker_pb2.Load()
    group.step()
    group.forecast.note_response(worker_pb2.RunResponse(), now=1_000.0)
    assert group.start_steps() == pytest.approx(1, abs=0.1)


def test_a_step_takes_the_longer_the_more_outputs_it_has() -> None:
    pace = Pace()
    assert (pace.step_s(8), pace.alone_step_s) == (0, None)
    for _ in range(200):
        pace.note_step(0.5, 40)
    assert pace.step_s(40) == pytest.approx(0.5)
    assert pace.step_s(80) == pytest.approx(0.75)  # half of it is taken to be the same for all
    assert pace.alone_step_s is None
    pace.note_step(0.1, 1)
    assert pace.alone_step_s == pytest.approx(0.1)
    for _ in range(200):
        pace.note_step(0.5, 40)
    assert pace.step_s(80) == pytest.approx(0.9)
    assert pace.step_s(1) == pytest.approx(0.11)


def test_a_machine_that_stood_still_once_is_not_slow() -> None:
    for num_outputs in (1, 3, 8, 64):
        pace = Pace()
        for _ in range(600):
            pace.note_step(0.035, num_outputs)
        before_s = pace.step_s(64)
        pace.note_step(3.0, num_outputs)
        assert pace.step_s(64) < 1.1 * before_s
        for _ in range(60):
            pace.note_step(0.35, num_outputs)
        assert pace.step_s(num_outputs) > 0.8 * 0.35  # slow for good


def test_few_outputs_say_nothing_of_many() -> None:
    pace = Pace()
    for _ in range(100):
        pace.note_step(0.03, 1)
    for _ in range(20):
        pace.note_step(0.06, 3)
    assert pace.step_s(64) <= 0.06


def test_prompts_make_their_steps_longer() -> None:
    pace = Pace()
    pace.note_step(0.3, 1, num_prompt_tokens=100)  # of which nothing else is known yet
    assert pace.prompt_token_s == pytest.approx(0.003)
    assert pace.step_s(1) == 0
    pace.note_step(0.1, 1)
    for _ in range(100):
        pace.note_step(0.5, 8, num_prompt_tokens=200)
    steps_and_prompts_s = pace.step_s(8) + 200 * pace.prompt_token_s
    assert steps_and_prompts_s == pytest.approx(0.5, rel=0.02)
    assert pace.prompt_tokens_per_step == pytest.approx(200, rel=0.02)
    assert pace.step_s(1) == pytest.approx(0.1, rel=0.2)


def test_an_end_counts_the_prompts_of_those_that_come_after() -> None:
    group = Group(num_steps=3)
    group.load = worker_pb2.Load(running=1, step_prompt_tokens=100)
    group.forecast.note_response(worker_pb2.RunResponse(load=group.load), now=1.3)  # 1 s: 9 ms each
    group.load = worker_pb2.Load(running=2)
    long = worker_pb2.Submit(prompt_token_ids=[1] * 100, max_tokens=10)
    group.forecast.note_submitted(1, long)
    alone = group.forecast.end_s(submit(10))
    group.forecast.note_submitted(2, long)
    # Both places are taken: as it runs ten steps, ten more of either's end, and prompts take them.
    assert group.forecast.end_s(submit(10)) > alone + 100 * 0.009 + 10 * STEP_S


def test_outputs_are_expected_to_be_as_long_as_others_with_such_a_limit() -> None:
    pace = Pace()
    assert pace.output_tokens(1_000) == 1_000
    for _ in range(100):
        pace.note_output(50, 1_000)
        pace.note_output(9, 10)
    assert pace.output_tokens(600) == pytest.approx(50)
    assert pace.output_tokens(10) == pytest.approx(9)
    assert pace.output_tokens(8) == 8  # no longer than allowed
    assert pace.output_tokens(100) == 100  # none such was seen
    assert pace.output_tokens(None) == 0
    pace.note_output(70, None)
    pace.note_output(0, 0)  # prompts alone
    assert (pace.output_tokens(None), pace.output_tokens(0)) == (70, 0)


def test_an_output_that_was_cut_short_teaches_nothing() -> None:
    group = Group()
    group.run(1, 10, submit(100))
    group.step(worker_pb2.RunItem(key=1, error=worker_pb2.RunError(code=4)))
    assert group.forecast.end_s(submit(100)) / STEP_S == pytest.approx(101, abs=0.1)
