"""Several outputs of one prompt: each what it would be alone, from one prefill."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from octavo.errors import DeadlineExceededError
from services.worker.engine.engine import Engine, EngineConfig
from services.worker.engine.request import (
    LogitRules,
    LogprobOptions,
    Sampling,
    Submission,
    token_array,
)
from services.worker.engine.step_output import Finish, FinishReason, OutputItem
from tests.services.worker.engine.alone import answer_alone, ids_alone
from tests.services.worker.engine.toy_model import (
    ROOMY,
    Answers,
    Clock,
    ToyModel,
    make_engine,
    run_to_end,
    submission,
)

RANDOM = Sampling(temperature=1.5, seed=11)


def several(key: int, count: int, *args: Any, **fields: Any) -> Submission:
    return submission(key, *args, **{"num_outputs": count, "sampling": RANDOM, **fields})


def assert_as_alone(answers: Answers, asked: Submission, config: EngineConfig = ROOMY) -> None:
    for index in range(asked.num_outputs):
        ids, end = ids_alone(asked, config.context_limit, index=index)
        assert tuple(answers.ids[asked.key, index]) == ids
        assert answers.finishes[asked.key, index] == end


def run_one(asked: Submission, config: EngineConfig = ROOMY) -> tuple[Engine, ToyModel, Answers]:
    engine = make_engine(config, model=(model := ToyModel()))
    engine.submit(asked)
    answers = run_to_end(engine)
    assert engine.load.num_used_blocks == 0
    return engine, model, answers


def test_outputs_differ_and_each_is_what_it_is_alone() -> None:
    asked = several(1, 8, max_tokens=6)
    _, _, answers = run_one(asked)
    assert_as_alone(answers, asked)
    assert len({tuple(answers.ids[1, index]) for index in range(8)}) == 8


def test_greedy_outputs_are_equal() -> None:
    asked = several(1, 3, max_tokens=6, sampling=Sampling(temperature=0))
    _, _, answers = run_one(asked)
    assert answers.ids[1, 0] == answers.ids[1, 1] == answers.ids[1, 2]


@pytest.mark.parametrize(("num_prompt", "num_used"), [(10, [3, 5]), (8, [2, 5])])
def test_the_prompt_is_computed_once_and_its_full_blocks_are_shared(
    num_prompt: int, num_used: list[int]
) -> None:
    asked = several(1, 3, range(num_prompt), max_tokens=3)
    engine = make_engine(model=(model := ToyModel()))
    engine.submit(asked)
    used = []
    for _ in range(2):
        engine.step()
        used.append(engine.load.num_used_blocks)
    assert used == num_used
    assert model.num_tokens_of_steps == [num_prompt, 3]


@pytest.mark.parametrize("num_prompt", [7, 8, 9])
@pytest.mark.parametrize("num_blocks", [9, 10, 13, 17])
def test_outputs_that_find_no_blocks_wait_and_give_the_same_tokens(
    num_prompt: int, num_blocks: int
) -> None:
    config = dataclasses.replace(ROOMY, num_blocks=num_blocks, max_context=36)
    asked = several(1, 6, range(num_prompt), max_tokens=25)
    engine, _, answers = run_one(asked, config)
    assert_as_alone(answers, asked, config)
    assert engine.load.num_preemptions > 0
    timings = answers.last_items[1].timings
    assert timings is not None and timings.num_preemptions == engine.load.num_preemptions


def test_forced_ids_rules_and_log_probabilities_of_every_output() -> None:
    asked = several(
        1,
        4,
        range(9),
        forced_ids=(3, 4, 5, 6, 7, 8),
        max_tokens=12,
        sampling=Sampling(seed=5, rules=LogitRules(repetition_penalty=2.0, no_repeat_ngram=2)),
        logprobs=LogprobOptions(generated=True, prompt=True, top=2),
    )
    _, model, answers = run_one(asked, dataclasses.replace(ROOMY, max_step_tokens=32))
    assert_as_alone(answers, asked)
    for index in range(4):
        expected = answer_alone(asked, ROOMY.context_limit, index=index)
        found = answers.logprobs[1, index]
        assert [one.top_ids for one in found] == [one.top_ids for one in expected.logprobs]
    assert len(answers.prompt_logprobs[1]) == 8
    assert model.num_tokens_of_steps[0] == 15  # forced ids are shared too


def test_outputs_that_end_together_before_they_fork() -> None:
    _, model, answers = run_one(several(1, 3, forced_ids=(4, 5, 6), max_tokens=2))
    assert model.num_tokens_of_steps == [4]
    for index in range(3):
        assert answers.ids[1, index] == [4, 5]
        assert answers.finishes[1, index] == Finish(reason=FinishReason.LENGTH)


def test_each_output_has_its_own_finish_and_the_last_item_the_times() -> None:
    asked = several(1, 6, max_tokens=30, stop_ids=frozenset(range(6)))
    engine = make_engine()
    engine.submit(asked)
    items: list[OutputItem] = []
    while engine.has_work:
        items += engine.step().items
    answers = Answers()
    answers.add(items)
    assert_as_alone(answers, asked)
    assert len({len(answers.ids[1, index]) for index in range(6)}) > 2
    assert [item.timings is not None for item in items] == [False] * (len(items) - 1) + [True]
    assert [item.started for item in items] == [True] + [False] * (len(items) - 1)


def test_what_was_generated_elsewhere_is_that_of_each_output() -> None:
    whole = several(1, 3, max_tokens=9)
    ids = [ids_alone(whole, ROOMY.context_limit, index=index)[0] for index in range(3)]
    before = (ids[0][:4], (), ids[2])
    _, _, answers = run_one(dataclasses.replace(whole, generated_ids=before))
    assert [tuple(answers.ids[1, index]) for index in range(3)] == [ids[0][4:], ids[1], ()]
    assert answers.finishes == {(1, i): Finish(reason=FinishReason.LENGTH) for i in range(3)}


def test_a_request_takes_as_many_places_as_it_has_outputs() -> None:
    engine = make_engine(dataclasses.replace(ROOMY, max_running=4))
    for key, count in [(1, 3), (2, 2), (3, 1)]:
        engine.submit(several(key, count, max_tokens=4))
    loads = [engine.step().load for _ in range(4)]
    # The queue's first is not overtaken, though there is a place for the next.
    assert [(load.num_running, load.num_waiting) for load in loads] == [(3, 3)] * 3 + [(0, 3)]
    engine.step()
    assert (engine.load.num_running, engine.load.num_waiting) == (3, 0)


def test_the_queue_counts_outputs() -> None:
    engine = make_engine(dataclasses.replace(ROOMY, max_waiting=5))
    engine.submit(several(1, 6, max_tokens=1))  # an empty queue takes any
    engine.submit(several(2, 1, max_tokens=1))
    assert engine.load.num_waiting == 6
    answers = run_to_end(engine)
    assert answers.error_of(2).metadata == {"field": "max_waiting", "value": "7", "limit": "5"}


@pytest.mark.parametrize("num_steps", [0, 1, 3])
def test_a_cancel_and_the_time_limit_end_every_output(num_steps: int) -> None:
    clock = Clock()
    engine = make_engine(clock=clock)
    engine.submit(several(1, 3, range(6)))
    engine.submit(several(2, 3, range(6), expires_at=clock.now + 1))
    answers = Answers()
    for _ in range(num_steps):
        answers.add(engine.step().items)
    engine.cancel([1])
    clock.now += 2
    run_to_end(engine, answers)
    reasons = {1: FinishReason.CANCELLED, 2: FinishReason.TIME_LIMIT}
    assert answers.finishes == {
        (key, index): Finish(reason=reasons[key]) for key in (1, 2) for index in range(3)
    }
    assert engine.load.num_used_blocks == 0


def test_one_output_is_cancelled_and_the_others_go_on_as_they_would() -> None:
    alone, engine = make_engine(), make_engine()
    for each in (alone, engine):
        each.submit(several(1, 3, range(6), max_tokens=9))
    expected = run_to_end(alone)
    answers = Answers()
    engine.cancel_outputs([(1, 1)])  # it is still the same as the others
    for _ in range(3):
        answers.add(engine.step().items)
    num_running = engine.load.num_running
    engine.cancel_outputs([(1, 1), (1, 7), (2, 0)])
    engine.cancel_outputs([(1, 1)])
    assert engine.load.num_running == num_running - 1
    run_to_end(engine, answers)
    length = Finish(reason=FinishReason.LENGTH)
    cancelled = Finish(reason=FinishReason.CANCELLED)
    assert answers.finishes == {(1, 0): length, (1, 1): cancelled, (1, 2): length}
    for index in (0, 2):
        assert answers.ids[1, index] == expected.ids[1, index]
    assert len(answers.ids[1, 1]) < 9
    assert engine.load.num_used_blocks == 0


def test_a_deadline_is_one_error_and_counts_all_tokens() -> None:
    clock = Clock()
    engine = make_engine(clock=clock)
    engine.submit(several(1, 3, deadline_at=clock.now + 1))
    engine.step()
    engine.step()
    clock.now += 1
    (item,) = engine.step().items
    assert isinstance(item.error, DeadlineExceededError)
    assert item.error.metadata["generated_tokens"] == "6"
    assert not engine.has_work


def test_an_output_that_fails_ends_its_whole_request_and_no_other() -> None:
    other = several(2, 3, max_tokens=9)
    engine = make_engine()
    rules = LogitRules(no_repeat_ngram=1, allowed_ids=token_array([4, 5, 6]))
    engine.submit(several(1, 3, sampling=Sampling(seed=3, rules=rules)))
    engine.submit(other)
    answers = run_to_end(engine)
    assert answers.error_of(1).reason == "NO_TOKEN_ALLOWED"
    assert [sorted(answers.ids[1, index]) for index in range(3)] == [[4, 5, 6]] * 3
    assert answers.finishes.keys() == {(2, 0), (2, 1), (2, 2)}
    assert_as_alone(answers, other)
    assert engine.load.num_used_blocks == 0


def test_logits_that_are_not_finite_end_all_outputs_with_one_error() -> None:
    engine = make_engine(model=ToyModel(poison := 49))
    engine.submit(several(1, 3, [1, poison]))
    (item,) = engine.step().items
    assert item.error is not None and item.error.reason == "NUMERIC_ERROR"
    assert not engine.has_work
    assert engine.load.num_used_blocks == 0
