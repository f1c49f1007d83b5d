"""What has no place in the queue, and what that does for the rest, in simulated time."""

from __future__ import annotations

import pytest

from octavo.errors import ResourceExhaustedError
from octavo.v1 import worker_pb2
from services.worker.front.admission import Admission, Limits
from tests.services.worker.front.simulated_worker import (
    LIMITS,
    ROW_S,
    STEP_S,
    Outcome,
    SimulatedWorker,
)

CLIENTS = 32
LOOP_S = 60.0


def submit(
    num_prompt_tokens: int = 1, *, max_tokens: int | None = None, deadline_ms: int | None = None
) -> worker_pb2.Submit:
    return worker_pb2.Submit(
        prompt_token_ids=[1] * num_prompt_tokens, max_tokens=max_tokens, deadline_ms=deadline_ms
    )


def take(admission: Admission, *submits: worker_pb2.Submit) -> None:
    for key, one in enumerate(submits, start=admission.forecast.num_outputs + 1):
        admission.check(one)
        admission.forecast.note_submitted(key, one)


@pytest.fixture
def small() -> Admission:
    return Admission(
        Limits(max_running=2, max_step_tokens=8, max_waiting=3, max_waiting_prompt_tokens=20)
    )


@pytest.mark.parametrize(
    ("taken", "refused", "field", "value", "limit"),
    [
        ([1, 1, 1], 1, "max_waiting", "4", "3"),
        ([15], 6, "max_waiting_prompt_tokens", "21", "20"),
    ],
)
def test_the_queue_is_bounded(
    *, small: Admission, taken: list[int], refused: int, field: str, value: str, limit: str
) -> None:
    take(small, *map(submit, taken))
    with pytest.raises(ResourceExhaustedError) as raised:
        small.check(submit(refused))
    assert raised.value.reason == "QUEUE_FULL"
    assert raised.value.metadata == {"field": field, "value": value, "limit": limit}
    assert raised.value.retry_delay_ms == 100


def test_the_queue_counts_outputs(small: Admission) -> None:
    several = submit()
    several.sampling.n = 2
    take(small, several)
    with pytest.raises(ResourceExhaustedError) as raised:
        take(small, several)
    assert raised.value.metadata == {"field": "max_waiting", "value": "4", "limit": "3"}
    take(small, submit())


@pytest.mark.parametrize("num_outputs", [1, 2])
def test_a_group_is_busy_by_the_outputs_that_are_open(num_outputs: int) -> None:
    admission = Admission(
        Limits(max_running=4, max_step_tokens=8, max_waiting=9, max_waiting_prompt_tokens=20)
    )
    opened = submit(max_tokens=50)
    opened.sampling.n = num_outputs
    take(admission, opened)
    for now in (1.0, 2.0):
        response = worker_pb2.RunResponse(load=worker_pb2.Load(running=num_outputs))
        admission.forecast.note_response(response, now)
    hasty = submit(max_tokens=50, deadline_ms=100)
    if num_outputs == 1:
        admission.check(hasty)
        return
    with pytest.raises(ResourceExhaustedError) as raised:
        admission.check(hasty)
    assert raised.value.reason == "QUEUE_TOO_LONG"


def test_an_empty_queue_takes_any_prompt(small: Admission) -> None:
    take(small, submit(500))


def test_what_runs_does_not_wait(small: Admission) -> None:
    take(small, submit(), submit(), submit())
    item = worker_pb2.RunItem(key=1, start=worker_pb2.RunStart(), token_ids=[1])
    small.forecast.note_response(worker_pb2.RunResponse(items=[item]), now=1.0)
    take(small, submit())
    with pytest.raises(ResourceExhaustedError):
        take(small, submit())


def finished_per_s(outcome: Outcome, begun_at: float, deadline_s: float) -> float:
    """In the steady part: from one deadline after the start until the last arrival."""
    begin, end = begun_at + deadline_s, begun_at + LOOP_S + deadline_s
    return sum(begin <= at < end for at in outcome.ends_at) / LOOP_S


def loads(worker: SimulatedWorker, *, patience: float, factor: float) -> tuple[float, Outcome]:
    """The ratio of what finishes in time to a closed loop's capacity; what became of the rest."""
    worker.closed_loop(CLIENTS, LOOP_S, 1e6)
    latency_s = CLIENTS * LOOP_S / len(worker.closed_loop(CLIENTS, LOOP_S, 1e6).ends_at)
    deadline_s, begun_at = patience * latency_s, worker.now
    closed = worker.closed_loop(CLIENTS, LOOP_S + deadline_s, deadline_s)
    capacity, begun_at = finished_per_s(closed, begun_at, deadline_s), worker.now
    overload = worker.open_loop(factor * capacity, LOOP_S + deadline_s, deadline_s)
    return finished_per_s(overload, begun_at, deadline_s) / capacity, overload


@pytest.mark.parametrize("patience", [1.3, 2.0, 3.0, 6.0])
def test_overload_does_not_cost_what_could_finish(patience: float) -> None:
    goodput, overload = loads(SimulatedWorker(), patience=patience, factor=3)
    assert goodput >= 0.9
    assert overload.num_refused > 0
    assert overload.num_expired < 0.05 * len(overload.ends_at)
    assert overload.longest_queue <= LIMITS.max_waiting


@pytest.mark.parametrize("patience", [1.3, 3.0])
def test_prompts_that_take_most_of_the_time_are_counted(patience: float) -> None:
    worker = SimulatedWorker(shortest_prompt=200, prompt_token_s=0.002)
    goodput, overload = loads(worker, patience=patience, factor=3)
    assert goodput >= 0.9
    assert overload.num_expired < 0.05 * len(overload.ends_at)


def test_without_it_nearly_nothing_finishes() -> None:
    goodput, overload = loads(SimulatedWorker(admission=False), patience=2.0, factor=3)
    assert goodput < 0.5
    assert overload.num_expired > len(overload.ends_at)


def test_a_machine_that_becomes_slower_takes_less_and_still_ends_it_in_time() -> None:
    worker = SimulatedWorker()
    worker.closed_loop(1, LOOP_S, 1e6)
    latency_s = CLIENTS * LOOP_S / len(worker.closed_loop(CLIENTS, LOOP_S, 1e6).ends_at)
    worker.slowness = 2.0
    deadline_s, begun_at = 2 * latency_s, worker.now
    overload = worker.open_loop(3 * CLIENTS / latency_s, LOOP_S + deadline_s, deadline_s)
    slow_capacity = CLIENTS / latency_s / worker.slowness
    assert finished_per_s(overload, begun_at, deadline_s) >= 0.8 * slow_capacity
    assert overload.num_expired < 0.05 * len(overload.ends_at)


def test_below_the_capacity_nothing_is_refused() -> None:
    goodput, load = loads(SimulatedWorker(), patience=2.0, factor=0.8)
    assert goodput > 0.6
    assert (load.num_refused, load.num_expired) == (0, 0)


def test_a_refusal_says_which_deadline_would_do() -> None:
    worker = SimulatedWorker()
    worker.closed_loop(CLIENTS, LOOP_S, 1e6)
    take(worker.admission, *(submit(max_tokens=64) for _ in range(200)))
    asked = submit(max_tokens=64, deadline_ms=1_000)
    with pytest.raises(ResourceExhaustedError) as raised:
        worker.admission.check(asked)
    error = raised.value
    assert error.reason == "QUEUE_TOO_LONG"
    assert (error.metadata["field"], error.metadata["value"]) == ("deadline_ms", "1000")
    assert error.retry_delay_ms is not None and error.retry_delay_ms > 100
    asked.deadline_ms = int(error.metadata["limit"])
    worker.admission.check(asked)


def test_what_could_not_end_in_time_alone_may_try_while_few_are_open() -> None:
    worker = SimulatedWorker()
    worker.closed_loop(1, LOOP_S, 1e6)
    worker.closed_loop(CLIENTS, LOOP_S, 1e6)
    take(worker.admission, *(submit(max_tokens=64) for _ in range(LIMITS.max_running // 2 - 1)))
    alone_ms = round(1e3 * 64 * (STEP_S + ROW_S))
    with pytest.raises(ResourceExhaustedError):  # others are why: later it could
        worker.admission.check(submit(max_tokens=64, deadline_ms=round(1.5 * alone_ms)))
    take(worker.admission, submit(max_tokens=64, deadline_ms=alone_ms))
    with pytest.raises(ResourceExhaustedError):
        worker.admission.check(submit(max_tokens=64, deadline_ms=alone_ms))
