"""Log probabilities of prompts and outputs, and ids that are forced."""

from __future__ import annotations

import dataclasses

import pytest

from services.worker.engine.request import LogprobOptions, Submission, token_array
from services.worker.engine.step_output import Finish, FinishReason
from tests.services.worker.engine.alone import (
    answer_alone,
    assert_as_alone,
    assert_logprobs_as_alone,
)
from tests.services.worker.engine.mixed_requests import mixed
from tests.services.worker.engine.toy_model import (
    ROOMY,
    ToyModel,
    make_engine,
    run_to_end,
    submission,
)

ALL_LOGPROBS = LogprobOptions(generated=True, prompt=True, top=3)


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
        for one in mixed(count)
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
    assert_as_alone(answers, asked, config)
    assert_logprobs_as_alone(answers, asked, config)
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
    assert_as_alone(run_to_end(engine), [asked], ROOMY)
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
    assert_as_alone(answers, asked, ROOMY)
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
    assert_as_alone(answers, asked, ROOMY)
    assert_logprobs_as_alone(answers, asked, ROOMY)
    assert engine.load.num_used_blocks == 0


def test_a_request_that_ends_before_its_prompt_was_scored_has_no_part_of_that() -> None:
    engine = make_engine(dataclasses.replace(ROOMY, max_step_tokens=8, max_running=4))
    engine.submit(submission(1, range(20), logprobs=ALL_LOGPROBS))
    engine.step()
    engine.cancel([1])
    (item,) = engine.step().items
    assert (item.started, item.prompt_logprobs) == (True, ())
    assert item.finish == Finish(reason=FinishReason.CANCELLED)
