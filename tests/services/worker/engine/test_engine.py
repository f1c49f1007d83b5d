"""What a caller of the engine sees: tokens, ends, refusals, and blocks that come back."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from octavo.errors import (
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    ResourceExhaustedError,
)
from services.worker.engine.engine import Engine
from services.worker.engine.request import (
    Sampling,
    token_array,
)
from services.worker.engine.step_output import Finish, FinishReason
from tests.services.worker.engine.alone import assert_as_alone, ids_alone
from tests.services.worker.engine.mixed_requests import RULES, mixed
from tests.services.worker.engine.toy_model import (
    ROOMY,
    Answers,
    Clock,
    ToyModel,
    make_engine,
    run_to_end,
    submission,
)


def test_one_request() -> None:
    asked = submission(1, max_tokens=5)
    engine = make_engine()
    engine.submit(asked)
    answers = run_to_end(engine)
    assert_as_alone(answers, [asked], ROOMY)
    assert len(answers.ids[1]) == 5
    assert engine.load.num_used_blocks == 0


def test_the_first_item_says_started_while_the_prompt_is_still_computed() -> None:
    engine = make_engine(dataclasses.replace(ROOMY, max_step_tokens=8, max_running=4))
    engine.submit(submission(1, range(20), max_tokens=1))
    items = [engine.step().items for _ in range(3)]
    assert [(item.started, len(item.token_ids)) for step in items for item in step] == [
        (True, 0),
        (False, 1),
    ]
    assert items[1] == ()
    assert not engine.has_work


@pytest.mark.parametrize("max_step_tokens", [8, 13, 64, 1000])
@pytest.mark.parametrize("num_blocks", [25, 40, 200])
def test_many_at_once_give_what_each_gives_alone(max_step_tokens: int, num_blocks: int) -> None:
    config = dataclasses.replace(
        ROOMY, max_step_tokens=max_step_tokens, num_blocks=num_blocks, max_running=8
    )
    model, asked = ToyModel(), mixed(32)
    engine = make_engine(config, model=model)
    for one in asked:
        engine.submit(one)
    assert_as_alone(run_to_end(engine), asked, config)
    assert max(model.num_tokens_of_steps) <= max_step_tokens


def test_a_preempted_request_keeps_its_tokens_and_goes_on_exactly() -> None:
    config = dataclasses.replace(ROOMY, num_blocks=12, max_context=40, max_running=4)
    asked = [
        submission(key, [key] * 8, max_tokens=30, sampling=Sampling(seed=key, rules=RULES[key]))
        for key in range(4)
    ]
    engine = make_engine(config)
    for one in asked:
        engine.submit(one)
    answers = run_to_end(engine)
    assert_as_alone(answers, asked, config)
    assert engine.load.num_preemptions > 0
    timings = [answers.last_items[key].timings for key in range(4)]
    num_preemptions = [one.num_preemptions for one in timings if one is not None]
    assert num_preemptions[0] == 0  # who came first is never preempted
    assert sum(num_preemptions) == engine.load.num_preemptions


def test_generation_goes_on_after_what_was_generated_elsewhere() -> None:
    whole = submission(1, max_tokens=12, sampling=Sampling(seed=5))
    ids, finish = ids_alone(whole, ROOMY.context_limit)
    engine = make_engine()
    for count in range(1, 12):
        engine.submit(dataclasses.replace(whole, key=count, generated_ids=(ids[:count],)))
    answers = run_to_end(engine)
    for count in range(1, 12):
        assert tuple(answers.ids[count]) == ids[count:]
        assert answers.ends[count] == finish


def test_what_was_generated_elsewhere_may_be_complete_already() -> None:
    engine = make_engine(model=(model := ToyModel()))
    engine.submit(submission(1, generated_ids=((4, 5),), max_tokens=2))
    engine.submit(submission(2, generated_ids=((4, 5),), max_tokens=9, stop_ids=frozenset({5})))
    engine.submit(submission(3, generated_ids=((4,) * 97,)))
    answers = run_to_end(engine)
    assert [answers.finish_of(key).reason for key in (1, 2, 3)] == [
        FinishReason.LENGTH,
        FinishReason.STOP,
        FinishReason.CONTEXT_LENGTH,
    ]
    assert answers.finish_of(2).stop_id == 5
    assert model.num_tokens_of_steps == []


def test_the_stop_id_is_the_last_of_the_ids() -> None:
    ids, _ = ids_alone(submission(1, max_tokens=20), ROOMY.context_limit)
    stop_id = ids[7]
    engine = make_engine()
    engine.submit(submission(1, max_tokens=20, stop_ids=frozenset({stop_id})))
    answers = run_to_end(engine)
    assert tuple(answers.ids[1]) == ids[: ids.index(stop_id) + 1]
    assert answers.ends[1] == Finish(reason=FinishReason.STOP, stop_id=stop_id)


def test_a_stop_sequence_is_the_last_of_the_ids() -> None:
    ids, _ = ids_alone(submission(1, max_tokens=20), ROOMY.context_limit)
    stops = (token_array([99]), token_array(ids[5:8]), token_array(ids[7:8]))
    engine = make_engine()
    engine.submit(submission(1, max_tokens=20, stop_sequences=stops))
    answers = run_to_end(engine)
    assert tuple(answers.ids[1]) == ids[:8]
    assert answers.ends[1] == Finish(reason=FinishReason.STOP, stop_sequence_index=1)


def test_a_stop_sequence_does_not_begin_in_the_prompt() -> None:
    ids, _ = ids_alone(submission(1, [1, 2, 3], max_tokens=3), ROOMY.context_limit)
    engine = make_engine()
    stops = (token_array([3, ids[0]]),)
    engine.submit(submission(1, [1, 2, 3], max_tokens=3, stop_sequences=stops))
    assert run_to_end(engine).finish_of(1).reason is FinishReason.LENGTH


def test_before_min_tokens_no_stop_id_is_drawn_and_no_stop_sequence_obeyed() -> None:
    asked = submission(
        1,
        max_tokens=40,
        min_tokens=9,
        stop_ids=frozenset(range(45)),
        stop_sequences=tuple(token_array([id]) for id in range(45, 50)),
    )
    engine = make_engine()
    engine.submit(asked)
    answers = run_to_end(engine)
    assert_as_alone(answers, [asked], ROOMY)
    assert len(answers.ids[1]) == 10
    assert min(answers.ids[1][:9]) >= 45
    assert answers.finish_of(1).reason is FinishReason.STOP


def test_a_request_whose_rules_forbid_everything_ends_alone() -> None:
    asked = [*mixed(12), submission(99, [1, 2], sampling=Sampling(rules=RULES[2]))]
    engine = make_engine()
    for one in asked:
        engine.submit(one)
    answers = run_to_end(engine)
    assert_as_alone(answers, asked, ROOMY)
    error = answers.error_of(99)
    assert isinstance(error, InvalidArgumentError)
    assert (error.reason, error.metadata["position"]) == ("NO_TOKEN_ALLOWED", "50")
    assert sorted(answers.ids[99]) == sorted({*range(50)} - {1, 2})


def test_a_prompt_id_does_not_stop_anything() -> None:
    ids, _ = ids_alone(submission(1, max_tokens=3), ROOMY.context_limit)
    prompt_id = next(id for id in range(50) if id not in ids)
    engine = make_engine()
    engine.submit(
        submission(1, [1, 2, 3], max_tokens=3, stop_ids=frozenset({3, prompt_id} - {*ids}))
    )
    assert run_to_end(engine).finish_of(1).reason is FinishReason.LENGTH


def test_the_context_ends_an_output() -> None:
    engine = make_engine()
    engine.submit(submission(1, range(40)))
    engine.submit(submission(2, [1] * 99))
    answers = run_to_end(engine)
    assert (len(answers.ids[1]), len(answers.ids[2])) == (60, 1)
    assert answers.finish_of(1).reason is FinishReason.CONTEXT_LENGTH


def test_a_cache_smaller_than_the_context_ends_an_output_when_it_is_full() -> None:
    engine = make_engine(dataclasses.replace(ROOMY, num_blocks=10))
    engine.submit(submission(1, range(10)))
    engine.submit(submission(2, range(10)))
    answers = run_to_end(engine)
    assert len(answers.ids[1]) == len(answers.ids[2]) == 30


@pytest.mark.parametrize(
    ("fields", "field", "value"),
    [
        ({"prompt_ids": (1,) * 100}, "prompt_token_ids", "100 ids"),
        ({"prompt_ids": ()}, "prompt_token_ids", "no ids"),
        ({"prompt_ids": (1, 50)}, "prompt_token_ids", "the id 50"),
        ({"prompt_ids": (1, -1)}, "prompt_token_ids", "the id -1"),
        ({"generated_ids": ((4_000_000_000,),)}, "generated", "the id 4000000000"),
        ({"forced_ids": (50,)}, "forced_token_ids", "the id 50"),
        ({"forced_ids": (1,) * 98}, "forced_token_ids", "98 ids"),
        ({"prompt_ids": (1,) * 101, "max_tokens": 0}, "prompt_token_ids", "101 ids"),
    ],
)
def test_ids_that_can_never_run_are_refused(fields: dict[str, Any], field: str, value: str) -> None:
    engine = make_engine()
    engine.submit(submission(1, **fields))
    assert engine.has_work
    error = run_to_end(engine).error_of(1)
    assert isinstance(error, InvalidArgumentError)
    assert (error.metadata["field"], error.metadata["value"]) == (field, value)
    assert error.metadata["limit"]


def test_a_full_queue_refuses_with_limit_and_delay() -> None:
    engine = make_engine(dataclasses.replace(ROOMY, max_waiting=2))
    for key in range(4):
        engine.submit(submission(key, max_tokens=2))
    answers = run_to_end(engine)
    for key in (2, 3):
        error = answers.error_of(key)
        assert isinstance(error, ResourceExhaustedError)
        assert error.reason == "QUEUE_FULL"
        assert error.metadata == {"field": "max_waiting", "value": "3", "limit": "2"}
        assert error.retry_delay_ms is not None and error.retry_delay_ms >= 100
    assert answers.finish_of(0) == answers.finish_of(1) == Finish(reason=FinishReason.LENGTH)


def test_the_queue_is_bounded_in_prompt_tokens_too() -> None:
    engine = make_engine(dataclasses.replace(ROOMY, max_waiting_prompt_tokens=50))
    engine.submit(submission(1, [1] * 60, max_tokens=1))
    engine.submit(submission(2, [1], max_tokens=1))
    assert engine.load.num_waiting_prompt_tokens == 60
    answers = run_to_end(engine)
    assert answers.finish_of(1).reason is FinishReason.LENGTH
    assert answers.error_of(2).metadata["field"] == "max_waiting_prompt_tokens"
    assert engine.load.num_waiting_prompt_tokens == 0


def test_the_delay_follows_how_long_others_waited() -> None:
    clock = Clock()
    engine = make_engine(dataclasses.replace(ROOMY, max_waiting=1), clock=clock)
    engine.submit(submission(1, arrived_at=clock.now - 3, max_tokens=4))
    answers = Answers()
    answers.add(engine.step().items)
    engine.submit(submission(2, max_tokens=1))
    engine.submit(submission(3, max_tokens=1))
    assert run_to_end(engine, answers).error_of(3).retry_delay_ms == 3000


def test_a_cancel_ends_in_the_next_step_and_frees_the_blocks() -> None:
    engine = make_engine(dataclasses.replace(ROOMY, max_running=1))
    for key in (1, 2):
        engine.submit(submission(key, range(30)))
    answers = Answers()
    for _ in range(3):
        answers.add(engine.step().items)
    engine.cancel([1, 2, 77])
    output = engine.step()
    answers.add(output.items)
    assert answers.ends == dict.fromkeys((1, 2), Finish(reason=FinishReason.CANCELLED))
    assert (len(answers.ids[1]), answers.started) == (3, {1})
    assert output.load.num_used_blocks == output.load.num_waiting == output.load.num_running == 0
    assert not engine.has_work


def test_a_cancel_in_the_middle_of_a_prompt() -> None:
    config = dataclasses.replace(ROOMY, max_step_tokens=8, max_running=4)
    engine = make_engine(config, model=(model := ToyModel()))
    engine.submit(submission(1, range(40)))
    engine.step()
    assert engine.load.num_used_blocks == 10
    engine.cancel([1])
    assert engine.step().load.num_used_blocks == 0
    assert model.num_tokens_of_steps == [8]


def test_the_time_limit_ends_an_output_and_keeps_what_there_is() -> None:
    clock = Clock()
    engine = make_engine(clock=clock)
    engine.submit(submission(1, expires_at=clock.now + 1))
    engine.submit(submission(2, expires_at=clock.now))  # over before it begins
    answers = Answers()
    answers.add(engine.step().items)
    clock.now += 2
    run_to_end(engine, answers)
    assert answers.ends == dict.fromkeys((1, 2), Finish(reason=FinishReason.TIME_LIMIT))
    assert (len(answers.ids[1]), answers.ids[2]) == (1, [])


def test_a_deadline_fails_the_request_also_in_the_queue() -> None:
    clock = Clock()
    config = dataclasses.replace(ROOMY, max_running=1)
    engine = make_engine(config, clock=clock, model=(model := ToyModel()))
    engine.submit(submission(1, deadline_at=clock.now + 1))
    engine.submit(submission(2, [1] * 20, deadline_at=clock.now + 1))
    engine.step()
    clock.now += 1
    answers = run_to_end(engine)
    assert isinstance(answers.error_of(1), DeadlineExceededError)
    assert isinstance(answers.error_of(2), DeadlineExceededError)
    assert model.num_tokens_of_steps == [3]
    assert engine.load.num_used_blocks == 0


@pytest.mark.parametrize("first", ["expires_at", "deadline_at"])
def test_of_two_limits_that_passed_the_earlier_decides(first: str) -> None:
    clock = Clock()
    engine = make_engine(clock=clock)
    limits: dict[str, Any] = {
        "expires_at": clock.now + 2,
        "deadline_at": clock.now + 2,
        first: clock.now + 1,
    }
    engine.submit(submission(1, **limits))
    clock.now += 3
    answers = run_to_end(engine)
    assert isinstance(answers.ends[1], Finish) == (first == "expires_at")


def test_logits_that_are_not_finite_end_their_request_alone() -> None:
    poison = 49
    model = ToyModel(poison)
    asked = [one for one in mixed(12) if poison not in one.prompt_ids]
    asked = [one for one in asked if poison not in ids_alone(one, ROOMY.context_limit)[0]]
    engine = make_engine(model=model)
    for one in asked:
        engine.submit(one)
    engine.submit(submission(100, [1, poison], max_tokens=3))
    answers = run_to_end(engine)
    error = answers.error_of(100)
    assert isinstance(error, InternalError)
    assert error.reason == "NUMERIC_ERROR"
    assert len(asked) > 5
    assert_as_alone(answers, asked, ROOMY)
    assert engine.load.num_used_blocks == 0


def test_what_the_model_raises_is_raised() -> None:
    class BrokenModel(ToyModel):
        def hidden_states(self, *_: object) -> object:  # type: ignore[override]  # it never returns
            raise RuntimeError("device lost")

    engine = make_engine(model=BrokenModel())
    engine.submit(submission(1))
    with pytest.raises(RuntimeError, match="device lost"):
        engine.step()


def test_timings_are_measured_on_the_clock() -> None:
    clock = Clock()
    engine = make_engine(clock=clock)
    engine.submit(submission(1, arrived_at=clock.now - 0.25, max_tokens=3))

    answers = Answers()
    while engine.has_work:
        answers.add(engine.step().items)
        clock.now += 1
    timings = answers.last_items[1].timings
    assert timings is not None
    assert (timings.queue_ms, timings.prefill_ms, timings.decode_ms) == (250, 0, 2000)


def test_a_key_may_be_used_again_after_its_end() -> None:
    engine = make_engine()
    engine.submit(submission(1, max_tokens=2))
    run_to_end(engine)
    engine.submit(submission(1, max_tokens=2))
    assert run_to_end(engine).finish_of(1).reason is FinishReason.LENGTH


def test_a_step_without_work_does_nothing() -> None:
    engine: Engine = make_engine()
    assert not engine.has_work
    assert engine.step().items == ()
