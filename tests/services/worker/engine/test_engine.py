"""What a caller of the engine sees: tokens, ends, refusals, and blocks that come back."""

from __future__ import annotations

import dataclasses
from array import array
from collections.abc import Sequence
from typing import Any

import pytest

from octavo.errors import (
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    ResourceExhaustedError,
)
from services.worker.engine.engine import Engine, EngineConfig
from services.worker.engine.request import (
    LogitRules,
    LogprobOptions,
    Sampling,
    Submission,
    token_array,
)
from services.worker.engine.step_output import Finish, FinishReason
from services.worker.engine.step_result import TokenLogprob
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


def _assert_as_alone(answers: Answers, asked: list[Submission], config: EngineConfig) -> None:
    for one in asked:
        for index in range(one.num_outputs):
            ids, end = ids_alone(one, config.context_limit, index=index)
            assert tuple(answers.ids[one.key, index]) == ids
            finish = answers.finishes.get((one.key, index), answers.end_of(one.key))
            assert finish == end


_LOW = range(2, 40)
_RULES = (
    None,
    LogitRules(repetition_penalty=1.5, frequency_penalty=0.7, presence_penalty=0.2),
    LogitRules(no_repeat_ngram=1, biased_ids=token_array([7]), biases=array("d", [6.0])),
    LogitRules(bad_words=(token_array([3]), token_array([8, 9])), allowed_ids=token_array(_LOW)),
)


def _mixed(count: int) -> list[Submission]:
    return [
        submission(
            key,
            [(7 * key + step) % 50 for step in range(1 + 5 * key % 23)],
            max_tokens=3 + key % 9,
            min_tokens=key % 4,
            stop_ids=frozenset(range(key % 20)),
            num_outputs=4 if key % 5 == 3 else 1,
            sampling=Sampling(temperature=key % 3 / 2, top_p=0.9, seed=key, rules=_RULES[key % 4]),
        )
        for key in range(count)
    ]


def test_one_request() -> None:
    asked = submission(1, max_tokens=5)
    engine = make_engine()
    engine.submit(asked)
    answers = run_to_end(engine)
    _assert_as_alone(answers, [asked], ROOMY)
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
    model, asked = ToyModel(), _mixed(32)
    engine = make_engine(config, model=model)
    for one in asked:
        engine.submit(one)
    _assert_as_alone(run_to_end(engine), asked, config)
    assert max(model.num_tokens_of_steps) <= max_step_tokens


def test_a_preempted_request_keeps_its_tokens_and_goes_on_exactly() -> None:
    config = dataclasses.replace(ROOMY, num_blocks=12, max_context=40, max_running=4)
    asked = [
        submission(key, [key] * 8, max_tokens=30, sampling=Sampling(seed=key, rules=_RULES[key]))
        for key in range(4)
    ]
    engine = make_engine(config)
    for one in asked:
        engine.submit(one)
    answers = run_to_end(engine)
    _assert_as_alone(answers, asked, config)
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
    _assert_as_alone(answers, [asked], ROOMY)
    assert len(answers.ids[1]) == 10
    assert min(answers.ids[1][:9]) >= 45
    assert answers.finish_of(1).reason is FinishReason.STOP


def test_a_request_whose_rules_forbid_everything_ends_alone() -> None:
    asked = [*_mixed(12), submission(99, [1, 2], sampling=Sampling(rules=_RULES[2]))]
    engine = make_engine()
    for one in asked:
        engine.submit(one)
    answers = run_to_end(engine)
    _assert_as_alone(answers, asked, ROOMY)
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


ALL_LOGPROBS = LogprobOptions(generated=True, prompt=True, top=3)


def _assert_logprobs_as_alone(
    answers: Answers, asked: list[Submission], config: EngineConfig
) -> None:
    for one in asked:
        expected = answer_alone(one, config.context_limit)
        _assert_same_logprobs(answers.prompt_logprobs.get(one.key, ()), expected.prompt_logprobs)
        for index in range(one.num_outputs):
            expected = answer_alone(one, config.context_limit, index=index)
            _assert_same_logprobs(answers.logprobs[one.key, index], expected.logprobs)


def _assert_same_logprobs(found: Sequence[TokenLogprob], wanted: Sequence[TokenLogprob]) -> None:
    assert [one.top_ids for one in found] == [one.top_ids for one in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert one.logprob == pytest.approx(other.logprob, rel=1e-6)
        assert one.top_logprobs == pytest.approx(other.top_logprobs, rel=1e-6)


def _scored(count: int) -> list[Submission]:
    """Requests that want log probabilities of this and that, some with forced ids."""
    return [
        dataclasses.replace(
            one,
            forced_ids=tuple((3 * one.key + step) % 50 for step in range(one.key % 4 * 5)),
            max_tokens=one.key % 25,
            logprobs=LogprobOptions(
                generated=one.key % 2 == 0, prompt=one.key % 3 != 0, top=one.key % 5
            ),
        )
        for one in _mixed(count)
    ]


@pytest.mark.parametrize("max_step_tokens", [8, 13, 64])
@pytest.mark.parametrize("num_blocks", [14, 200])
def test_log_probabilities_and_forced_ids_are_those_of_each_alone(
    max_step_tokens: int, num_blocks: int
) -> None:
    config = dataclasses.replace(
        ROOMY, max_step_tokens=max_step_tokens, num_blocks=num_blocks, max_running=8
    )
    engine, asked = make_engine(config), _scored(30)
    for one in asked:
        engine.submit(one)
    answers = run_to_end(engine)
    _assert_as_alone(answers, asked, config)
    _assert_logprobs_as_alone(answers, asked, config)
    assert (engine.load.num_preemptions > 0) == (num_blocks == 14)
    assert engine.load.num_used_blocks == 0


def test_prompt_log_probabilities_come_with_the_start_which_waits_for_them() -> None:
    engine = make_engine(dataclasses.replace(ROOMY, max_step_tokens=8, max_running=4))
    engine.submit(submission(1, range(20), max_tokens=2, logprobs=ALL_LOGPROBS))
    items = [engine.step().items for _ in range(4)]
    assert items[:2] == [(), ()]
    (first,), (second,) = items[2:]
    assert (first.started, len(first.prompt_logprobs), len(first.logprobs)) == (True, 19, 1)
    assert (second.started, second.prompt_logprobs, len(second.logprobs)) == (False, (), 1)


def test_forced_ids_have_the_log_probabilities_that_they_have_in_a_prompt() -> None:
    text = [(7 * step) % 50 for step in range(30)]
    engine = make_engine()
    engine.submit(submission(1, text, max_tokens=0, logprobs=ALL_LOGPROBS))
    engine.submit(
        submission(2, text[:4], forced_ids=tuple(text[4:]), max_tokens=26, logprobs=ALL_LOGPROBS)
    )
    answers = run_to_end(engine)
    assert tuple(answers.prompt_logprobs[1]) == (
        *answers.prompt_logprobs[2],
        *answers.logprobs[2],
    )
    assert (answers.ids[1], answers.ids[2]) == ([], text[4:])


def test_forced_ids_are_computed_in_chunks_and_generation_goes_on_after_them() -> None:
    asked = submission(1, range(10), forced_ids=tuple(range(40)), max_tokens=43)
    engine = make_engine(model=(model := ToyModel()))
    engine.submit(asked)
    _assert_as_alone(run_to_end(engine), [asked], ROOMY)
    assert model.num_tokens_of_steps == [50, 1, 1]


def test_a_stop_among_the_forced_ids_ends_the_output_there() -> None:
    forced = (4, 5, 6, 7, 8, 9)
    asked = [
        submission(1, forced_ids=forced, stop_ids=frozenset({7})),
        submission(2, forced_ids=forced, stop_sequences=(token_array([5, 6]),)),
        submission(3, forced_ids=forced, stop_ids=frozenset({5, 8}), min_tokens=3),
        submission(4, forced_ids=forced, max_tokens=2),
        submission(5, forced_ids=forced, max_tokens=0),
        submission(6, [1] * 95, forced_ids=forced[:5]),
    ]
    engine = make_engine()
    for one in asked:
        engine.submit(one)
    answers = run_to_end(engine)
    _assert_as_alone(answers, asked, ROOMY)
    assert [len(answers.ids[key]) for key in range(1, 7)] == [4, 3, 5, 2, 0, 5]
    assert answers.finish_of(2).stop_sequence_index == 0
    assert answers.finish_of(6).reason is FinishReason.CONTEXT_LENGTH


def test_what_was_generated_elsewhere_goes_on_among_and_after_forced_ids() -> None:
    whole = submission(1, forced_ids=(4, 5, 6, 7), max_tokens=9, logprobs=ALL_LOGPROBS)
    expected = answer_alone(whole, ROOMY.context_limit)
    options = LogprobOptions(generated=True, top=3)
    engine = make_engine()
    for count in range(9):
        engine.submit(
            dataclasses.replace(
                whole, key=count, generated_ids=(tuple(expected.ids[:count]),), logprobs=options
            )
        )
    answers = run_to_end(engine)
    for count in range(9):
        assert answers.ids[count] == expected.ids[count:]
        assert [one.top_ids for one in answers.logprobs[count]] == [
            one.top_ids for one in expected.logprobs[count:]
        ]


def test_no_output_is_wanted_of_a_prompt_that_fills_the_context() -> None:
    engine = make_engine()
    engine.submit(submission(1, [1] * 100, max_tokens=0, logprobs=ALL_LOGPROBS))
    engine.submit(submission(2, [1], max_tokens=0, logprobs=ALL_LOGPROBS))
    engine.submit(submission(3, [1, 2], max_tokens=0))
    answers = run_to_end(engine)
    assert len(answers.prompt_logprobs[1]) == 99
    assert answers.ends == dict.fromkeys((1, 2, 3), Finish(reason=FinishReason.LENGTH))
    assert engine.load.num_used_blocks == 0


def test_a_long_prompt_is_scored_a_few_rows_at_a_time() -> None:
    config = dataclasses.replace(ROOMY, max_context=600, max_step_tokens=500)
    engine = make_engine(config, model=(model := ToyModel()))
    engine.submit(submission(1, [step % 50 for step in range(500)], logprobs=ALL_LOGPROBS))
    engine.step()
    assert sum(model.num_rows_of_logits) == 500
    assert max(model.num_rows_of_logits) <= 64


def test_a_prompt_whose_logits_are_not_finite_ends_alone_and_says_where() -> None:
    poison = 49
    engine = make_engine(model=ToyModel(poison))
    asked = [submission(1, range(30), max_tokens=0, logprobs=ALL_LOGPROBS)]
    engine.submit(asked[0])
    bad = [1, 2, poison, 4, 5]
    engine.submit(submission(2, bad, max_tokens=0, logprobs=ALL_LOGPROBS))
    engine.submit(submission(3, bad[:2], forced_ids=tuple(bad[2:]), logprobs=ALL_LOGPROBS))
    answers = run_to_end(engine)
    for key in (2, 3):
        assert answers.error_of(key).reason == "NUMERIC_ERROR"
        assert answers.error_of(key).metadata["position"] == "3"
    _assert_as_alone(answers, asked, ROOMY)
    _assert_logprobs_as_alone(answers, asked, ROOMY)
    assert engine.load.num_used_blocks == 0


def test_a_request_that_ends_before_its_prompt_was_scored_has_no_part_of_that() -> None:
    engine = make_engine(dataclasses.replace(ROOMY, max_step_tokens=8, max_running=4))
    engine.submit(submission(1, range(20), logprobs=ALL_LOGPROBS))
    engine.step()
    engine.cancel([1])
    (item,) = engine.step().items
    assert (item.started, item.prompt_logprobs) == (True, ())
    assert item.finish == Finish(reason=FinishReason.CANCELLED)


def test_logits_that_are_not_finite_end_their_request_alone() -> None:
    poison = 49
    model = ToyModel(poison)
    asked = [one for one in _mixed(12) if poison not in one.prompt_ids]
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
    _assert_as_alone(answers, asked, ROOMY)
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
