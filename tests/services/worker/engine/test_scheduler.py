"""Who runs, who waits, who makes way: the plans themselves, without a model."""

from __future__ import annotations

import dataclasses

from services.worker.engine.scheduler import Scheduler
from services.worker.engine.step_plan import StepPlan
from services.worker.engine.step_result import ChunkResult, Drawn
from tests.services.worker.engine.toy_model import ROOMY, submission


def _step(scheduler: Scheduler, now: float = 0.0) -> StepPlan:
    """One step whose every draw gives the id 9."""
    plan = scheduler.schedule(now)
    scheduler.postprocess(_nines(plan), now)
    return plan


def _nines(plan: StepPlan) -> list[ChunkResult]:
    return [ChunkResult(drawn=tuple(Drawn(9) for _ in chunk.draws)) for chunk in plan.chunks]


def _shape(plan: StepPlan) -> list[tuple[int, int]]:
    """Start and length of each chunk."""
    return [(chunk.start, len(chunk.token_ids)) for chunk in plan.chunks]


def _running_keys(scheduler: Scheduler) -> list[int]:
    return [sequence.request.key for sequence in scheduler.running]


def test_decodes_come_first_then_chunks_fill_the_budget() -> None:
    scheduler = Scheduler(dataclasses.replace(ROOMY, max_step_tokens=10, max_running=4))
    scheduler.submit(submission(1, range(4)), 0)
    assert _shape(_step(scheduler)) == [(0, 4)]
    scheduler.submit(submission(2, range(25)), 0)
    scheduler.submit(submission(3, range(3)), 0)
    assert _shape(_step(scheduler)) == [(4, 1), (0, 9)]
    assert _shape(_step(scheduler)) == [(5, 1), (9, 9)]
    assert _shape(_step(scheduler)) == [(6, 1), (18, 7), (0, 2)]
    assert _shape(_step(scheduler)) == [(7, 1), (25, 1), (2, 1)]


def test_only_the_last_chunk_of_a_prompt_draws() -> None:
    scheduler = Scheduler(dataclasses.replace(ROOMY, max_step_tokens=10, max_running=4))
    scheduler.submit(submission(1, range(25)), 0)
    plans = [_step(scheduler) for _ in range(4)]
    assert [[draw.position for chunk in plan.chunks for draw in chunk.draws] for plan in plans] == [
        [],
        [],
        [25],
        [26],
    ]


def test_a_decode_runs_the_token_drawn_last() -> None:
    scheduler = Scheduler(ROOMY)
    scheduler.submit(submission(1, [1, 2, 3]), 0)
    _step(scheduler)
    chunk = _step(scheduler).chunks[0]
    assert (chunk.token_ids, chunk.start, chunk.end) == ((9,), 3, 4)


def test_blocks_are_taken_when_tokens_need_them() -> None:
    scheduler = Scheduler(ROOMY)  # 4 tokens a block
    scheduler.submit(submission(1, range(7)), 0)
    used = []
    for _ in range(4):
        _step(scheduler)
        used.append(scheduler.load.num_used_blocks)
    assert used == [2, 2, 3, 3]


def test_priority_orders_the_queue_then_arrival() -> None:
    scheduler = Scheduler(dataclasses.replace(ROOMY, max_running=1))
    for key, priority in [(1, 0), (2, -1), (3, 5), (4, 0), (5, 5)]:
        scheduler.submit(submission(key, priority=priority, max_tokens=1), 0)
    order = []
    while scheduler.has_work:
        plan = scheduler.schedule(0)
        order += _running_keys(scheduler)
        scheduler.postprocess(_nines(plan), 0)
    assert order == [3, 5, 1, 4, 2]


def test_the_youngest_of_the_lowest_priority_is_preempted_first() -> None:
    config = dataclasses.replace(ROOMY, num_blocks=7, max_context=28)
    scheduler = Scheduler(config)
    for key, priority in [(1, 0), (2, 1), (3, 0)]:
        scheduler.submit(submission(key, [key] * 4, priority=priority), 0)
    _step(scheduler)
    assert _running_keys(scheduler) == [2, 1, 3]
    while scheduler.load.num_preemptions == 0:
        _step(scheduler)
    assert _running_keys(scheduler) == [2, 1]
    assert scheduler.waiting.first.request.key == 3


def test_a_higher_priority_takes_a_place_that_a_lower_one_has() -> None:
    scheduler = Scheduler(dataclasses.replace(ROOMY, max_running=2))
    for key, priority in [(1, 0), (2, 1)]:
        scheduler.submit(submission(key, priority=priority), 0)
    _step(scheduler)
    scheduler.submit(submission(3, priority=2), 0)
    _step(scheduler)
    assert _running_keys(scheduler) == [3, 2]
    assert scheduler.load.num_preemptions == 1


def test_an_equal_priority_takes_no_place() -> None:
    scheduler = Scheduler(dataclasses.replace(ROOMY, max_running=1))
    scheduler.submit(submission(1), 0)
    _step(scheduler)
    scheduler.submit(submission(2), 0)
    _step(scheduler)
    assert _running_keys(scheduler) == [1]


def test_nobody_makes_way_in_vain() -> None:
    config = dataclasses.replace(ROOMY, num_blocks=10, max_context=40)
    scheduler = Scheduler(config)
    scheduler.submit(submission(1, range(20), priority=5), 0)
    scheduler.submit(submission(2, range(8), priority=0), 0)
    _step(scheduler)
    scheduler.submit(submission(3, range(30), priority=3), 0)  # 8 blocks; 5 would be free
    _step(scheduler)
    assert _running_keys(scheduler) == [1, 2]
    assert scheduler.load.num_preemptions == 0


def test_the_first_of_the_queue_is_not_overtaken() -> None:
    config = dataclasses.replace(ROOMY, num_blocks=10, max_context=40)
    scheduler = Scheduler(config)
    scheduler.submit(submission(1, range(20), max_tokens=8), 0)
    _step(scheduler)
    scheduler.submit(submission(2, range(30), max_tokens=2), 0)
    scheduler.submit(submission(3, [1], max_tokens=2), 0)
    while 1 in _running_keys(scheduler):
        assert _running_keys(scheduler) == [1]
        _step(scheduler)
    _step(scheduler)
    assert _running_keys(scheduler) == [2, 3]


def test_a_start_leaves_a_block_for_each_of_the_others() -> None:
    config = dataclasses.replace(ROOMY, num_blocks=4, max_context=16)
    scheduler = Scheduler(config)
    scheduler.submit(submission(1, range(8)), 0)
    scheduler.submit(submission(2, range(8)), 0)
    _step(scheduler)
    assert _running_keys(scheduler) == [1]
    assert scheduler.load.num_preemptions == 0


def test_load_counts_what_there_is() -> None:
    scheduler = Scheduler(dataclasses.replace(ROOMY, max_running=1))
    scheduler.submit(submission(1, range(6)), 0)
    scheduler.submit(submission(2, range(5)), 0)
    load = scheduler.load
    assert (load.step, load.num_waiting, load.num_waiting_prompt_tokens) == (0, 2, 11)
    _step(scheduler)
    load = scheduler.load
    assert (load.step, load.num_running, load.num_waiting) == (1, 1, 1)
    assert (load.num_waiting_prompt_tokens, load.num_used_blocks, load.num_blocks) == (5, 2, 200)
    assert load.num_step_prompt_tokens == 6
    _step(scheduler)
    assert scheduler.load.num_step_prompt_tokens == 0


def test_a_higher_priority_takes_the_blocks_of_a_lower_one() -> None:
    config = dataclasses.replace(ROOMY, num_blocks=10, max_context=40)
    scheduler = Scheduler(config)
    scheduler.submit(submission(1, range(8), priority=1), 0)
    scheduler.submit(submission(2, range(16), priority=0), 0)
    _step(scheduler)
    scheduler.submit(submission(3, range(20), priority=1), 0)
    _step(scheduler)
    assert _running_keys(scheduler) == [1, 3]
    assert scheduler.waiting.first.request.key == 2


def test_a_long_prompt_of_a_lower_priority_holds_nobody_up() -> None:
    scheduler = Scheduler(dataclasses.replace(ROOMY, max_step_tokens=10, max_running=4))
    scheduler.submit(submission(1, range(50), priority=0), 0)
    assert _shape(_step(scheduler)) == [(0, 10)]
    scheduler.submit(submission(2, range(6), priority=1), 0)
    assert _shape(_step(scheduler)) == [(0, 6), (10, 4)]


def test_a_refusal_says_to_come_back_after_what_others_wait() -> None:
    scheduler = Scheduler(dataclasses.replace(ROOMY, max_running=1, max_waiting=1))
    scheduler.submit(submission(1, arrived_at=0, max_tokens=50), 0)
    _step(scheduler)
    scheduler.submit(submission(2, arrived_at=0), 0)
    delays = []
    for key, now in enumerate((0.0, 3.0, 60.0), 3):
        scheduler.submit(submission(key), now)
        items = scheduler.postprocess(_nines(scheduler.schedule(now)), now)
        (refused,) = [item for item in items if item.error]
        assert refused.error is not None
        delays.append(refused.error.retry_delay_ms)
    assert delays == [100, 3_000, 10_000]
