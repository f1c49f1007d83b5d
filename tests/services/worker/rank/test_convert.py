"""Between the wire and the engine's types."""

from __future__ import annotations

import dataclasses

from octavo.errors import DeadlineExceededError
from octavo.v1 import worker_pb2
from services.worker.engine.request import LogitRules, LogprobOptions, Sampling, token_array
from services.worker.engine.step_output import (
    Finish,
    FinishReason,
    Load,
    OutputItem,
    StepOutput,
    Timings,
)
from services.worker.engine.step_result import TokenLogprob
from services.worker.rank.convert import response_to_pb, submission_from_pb

LOAD = Load(
    step=1,
    num_running=2,
    num_waiting=3,
    num_waiting_prompt_tokens=4,
    num_used_blocks=5,
    num_blocks=6,
    num_preemptions=7,
    num_step_prompt_tokens=8,
)


def response(*items: OutputItem) -> worker_pb2.RunResponse:
    return response_to_pb(StepOutput(items=items, load=LOAD))


def test_a_full_submit() -> None:
    submit = worker_pb2.Submit(
        key=9,
        request_id="r",
        prompt_token_ids=[1, 2],
        generated=[worker_pb2.GeneratedTokens(token_ids=[3])],
        sampling=worker_pb2.ResolvedSampling(temperature=0.5, top_p=0.9, top_k=4, seed=-5),
        stop_token_ids=[6, 7],
        max_tokens=8,
        time_limit_ms=1_500,
        deadline_ms=2_500,
        priority=-3,
    )
    submission = submission_from_pb(submit, now=100.0)
    assert submission.key == 9
    assert submission.request_id == "r"
    assert submission.prompt_ids == (1, 2)
    assert (submission.num_outputs, submission.generated_ids) == (1, ((3,),))
    assert submission.sampling == Sampling(temperature=0.5, top_p=0.9, top_k=4, seed=-5)
    assert submission.stop_ids == {6, 7}
    assert submission.max_tokens == 8
    assert submission.expires_at == 101.5
    assert submission.deadline_at == 102.5
    assert submission.priority == -3
    assert submission.arrived_at == 100.0


def test_forced_ids_and_log_probabilities() -> None:
    submit = worker_pb2.Submit(
        key=1,
        prompt_token_ids=[1],
        forced_token_ids=[2, 3],
        logprobs=worker_pb2.LogprobOptions(generated=True, top=4, prompt=True),
        max_tokens=0,
    )
    submission = submission_from_pb(submit, now=0.0)
    assert submission.forced_ids == (2, 3)
    assert submission.logprobs == LogprobOptions(generated=True, top=4, prompt=True)
    assert submission.max_tokens == 0


def test_what_was_generated_is_given_to_its_output() -> None:
    generated = [
        worker_pb2.GeneratedTokens(output_index=2, token_ids=[5, 6]),
        worker_pb2.GeneratedTokens(output_index=0, token_ids=[7]),
    ]
    submit = worker_pb2.Submit(sampling=worker_pb2.ResolvedSampling(n=3), generated=generated)
    submission = submission_from_pb(submit, now=0.0)
    assert submission.num_outputs == 3
    assert submission.generated_ids == ((7,), (), (5, 6))


def test_log_probabilities_of_an_item_and_of_the_prompt() -> None:
    plain = TokenLogprob(logprob=-0.5)
    full = TokenLogprob(logprob=-1.5, top_ids=(0, 7), top_logprobs=(-0.25, -1.5))
    item = OutputItem(
        key=1,
        output_index=3,
        token_ids=(7,),
        logprobs=(full,),
        started=True,
        prompt_logprobs=(plain, full),
    )
    (message,) = response(item).items
    on_wire = worker_pb2.TokenLogprob(
        logprob=-1.5, top_token_ids=[0, 7], top_logprobs=[-0.25, -1.5]
    )
    assert message.output_index == 3
    assert list(message.logprobs) == [on_wire]
    assert list(message.start.prompt_logprobs) == [worker_pb2.TokenLogprob(logprob=-0.5), on_wire]


def test_rules_and_stops() -> None:
    sequences = [worker_pb2.TokenSequence(ids=[3]), worker_pb2.TokenSequence(ids=[4, 5])]
    submit = worker_pb2.Submit(
        key=1,
        prompt_token_ids=[1],
        sampling=worker_pb2.ResolvedSampling(
            min_p=0.25,
            frequency_penalty=0.5,
            presence_penalty=-0.5,
            repetition_penalty=1.5,
            no_repeat_ngram=3,
            logit_bias={7: -1.5, 8: 2.5},
            bad_words=sequences,
            allowed_token_ids=[9, 8],
        ),
        stop_sequences=sequences,
        min_tokens=6,
    )
    submission = submission_from_pb(submit, now=0.0)
    words = (token_array([3]), token_array([4, 5]))
    assert (submission.stop_sequences, submission.min_tokens) == (words, 6)
    assert submission.sampling.min_p == 0.25
    rules = submission.sampling.rules
    assert rules is not None
    assert dict(zip(rules.biased_ids, rules.biases, strict=True)) == {7: -1.5, 8: 2.5}
    assert rules == LogitRules(
        frequency_penalty=0.5,
        presence_penalty=-0.5,
        repetition_penalty=1.5,
        no_repeat_ngram=3,
        biased_ids=rules.biased_ids,
        biases=rules.biases,
        bad_words=words,
        allowed_ids=token_array([9, 8]),
    )


def test_rules_that_ask_for_nothing_are_none() -> None:
    sampling = worker_pb2.ResolvedSampling(
        frequency_penalty=0.0, presence_penalty=0.0, repetition_penalty=1.0, no_repeat_ngram=0
    )
    assert submission_from_pb(worker_pb2.Submit(sampling=sampling), now=0.0).sampling.rules is None


def test_what_is_absent_is_none_and_an_explicit_zero_is_not() -> None:
    absent = submission_from_pb(worker_pb2.Submit(key=1, prompt_token_ids=[1]), now=1.0)
    assert (absent.max_tokens, absent.expires_at, absent.deadline_at) == (None, None, None)
    assert absent.sampling == Sampling()
    greedy = worker_pb2.Submit(time_limit_ms=0, sampling=worker_pb2.ResolvedSampling(temperature=0))
    assert submission_from_pb(greedy, now=1.0).expires_at == 1.0
    assert submission_from_pb(greedy, now=1.0).sampling.temperature == 0


def test_the_load_field_by_field() -> None:
    assert response().load == worker_pb2.Load(
        step=1,
        running=2,
        waiting=3,
        waiting_prompt_tokens=4,
        kv_blocks_used=5,
        kv_blocks_total=6,
        preemptions=7,
        step_prompt_tokens=8,
    )


def test_a_first_item_says_so_even_with_nothing_cached() -> None:
    started, later = response(
        OutputItem(key=1, token_ids=(5,), started=True), OutputItem(key=2, token_ids=(6,))
    ).items
    assert started.HasField("start")
    assert not later.HasField("start")
    assert (started.key, list(started.token_ids)) == (1, [5])


def test_an_end_with_its_stop_id_and_times() -> None:
    timings = Timings(queue_ms=0.0, prefill_ms=2.0, decode_ms=3.0, num_preemptions=4)
    finish = Finish(reason=FinishReason.STOP, stop_id=0)
    (item,) = response(OutputItem(key=1, finish=finish, timings=timings)).items
    assert item.finish.reason == worker_pb2.RUN_FINISH_REASON_STOP
    assert item.finish.HasField("stop_token_id")
    assert item.timings == worker_pb2.RunTimings(prefill_ms=2, decode_ms=3, preemption_count=4)
    assert not item.finish.HasField("stop_sequence_index")
    zero = dataclasses.replace(timings, prefill_ms=0.0, decode_ms=0.0, num_preemptions=0)
    (item,) = response(OutputItem(key=1, finish=finish, timings=zero)).items
    assert item.HasField("timings")


def test_an_end_with_the_first_stop_sequence() -> None:
    finish = Finish(reason=FinishReason.STOP, stop_sequence_index=0)
    (item,) = response(OutputItem(key=1, finish=finish)).items
    assert item.finish.HasField("stop_sequence_index")
    assert not item.finish.HasField("stop_token_id")


def test_every_finish_reason_has_its_name_on_the_wire() -> None:
    for reason in FinishReason:
        (item,) = response(OutputItem(key=1, finish=Finish(reason=reason))).items
        name = worker_pb2.RunFinishReason.Name(item.finish.reason)
        assert name == f"RUN_FINISH_REASON_{reason.name}"


def test_an_error_keeps_code_reason_and_metadata() -> None:
    error = DeadlineExceededError("late", reason="LATE", metadata={"a": "b"}, retry_delay_ms=0)
    (item,) = response(OutputItem(key=1, error=error)).items
    assert item.error == worker_pb2.RunError(
        code=4, reason="LATE", message="late", metadata={"a": "b"}, retry_delay_ms=0
    )
    assert item.WhichOneof("end") == "error"
