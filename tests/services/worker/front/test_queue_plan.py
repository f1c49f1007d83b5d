"""When those that wait will start."""

from __future__ import annotations

import pytest

from services.worker.front.queue_plan import QueuePlan


def plan(*lanes: float, num_free: int = 0) -> QueuePlan:
    return QueuePlan(lanes, num_free=num_free, prompt_tokens_per_step=100)


def test_a_free_place_is_taken_in_the_next_step() -> None:
    assert plan(5, num_free=1).start(1, 50) == pytest.approx(1.5)


def test_without_one_the_first_to_end_makes_room() -> None:
    assert plan(9, 5).start(1, 50) == pytest.approx(5.5)
    assert plan(9, 5).start(2, 50) == pytest.approx(9.5)


def test_prompts_come_one_after_the_other() -> None:
    queue = plan(5, 5, 5)
    queue.add(1, 200, num_tokens=10)
    queue.add(1, 300, num_tokens=10)
    assert queue.start(1, 100) == pytest.approx(5 + 2 + 3 + 1)
    assert queue.num_prompt_tokens == 500


def test_who_came_before_holds_its_place_until_it_ends() -> None:
    queue = plan(2, 40)
    queue.add(1, 100, num_tokens=10)  # from step 3 to step 13
    assert queue.start(1, 100) == pytest.approx(14)


def test_more_outputs_than_places_wait_for_all_of_them() -> None:
    queue = plan(2, 7)
    assert queue.start(5, 100) == pytest.approx(8)
    queue.add(5, 100, num_tokens=10)
    assert queue.start(1, 100) == pytest.approx(19)
