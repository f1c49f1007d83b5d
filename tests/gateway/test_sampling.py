"""What clients ask of sampling, through real sockets: what the worker gets, what comes back."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from typing import Any

import pytest

from gateway.cancellation import Cancellation
from gateway.events import Accepted, Delta, Event, Finished, FinishReason, Token, Usage
from gateway.request import GenerationRequest, OutputOptions, Sampling, Stopping
from octavo.errors import InvalidArgumentError, ResourceExhaustedError
from tests.gateway.conftest import System
from tests.gateway.fake_tokenizer import EOS_ID
from tests.gateway.fake_worker import logprob_of, say
from tests.gateway.waiting import until


def request(**fields: Any) -> GenerationRequest:
    if "token_ids" not in fields:
        fields.setdefault("prompt", "hi")
    fields.setdefault("stopping", Stopping(max_tokens=4))
    return GenerationRequest(request_id="r1", arrived_at=time.monotonic(), **fields)


async def events_of(system: System, asked: GenerationRequest) -> list[Event]:
    async with aclosing(system.gateway.generation.generate(asked)) as events:
        return [event async for event in events]


def text_of(events: list[Event], index: int = 0) -> str:
    deltas = [event for event in events if isinstance(event, Delta)]
    return "".join(delta.text for delta in deltas if delta.output_index == index)


def tokens_of(events: list[Event], index: int = 0) -> list[Token]:
    deltas = [event for event in events if isinstance(event, Delta)]
    return [token for delta in deltas if delta.output_index == index for token in delta.tokens]


def finished_of(events: list[Event]) -> list[Finished]:
    finished = [event for event in events if isinstance(event, Finished)]
    return sorted(finished, key=lambda event: event.output_index)


def accepted_of(events: list[Event]) -> Accepted:
    (accepted,) = (event for event in events if isinstance(event, Accepted))
    return accepted


def usage_of(events: list[Event]) -> Usage:
    assert isinstance(events[-1], Usage)
    return events[-1]


async def test_every_field_reaches_the_worker(system: System) -> None:
    sampling = Sampling(
        min_p=0.25,
        frequency_penalty=-0.5,
        presence_penalty=0.5,
        repetition_penalty=1.25,
        no_repeat_ngram=3,
        logit_bias={97: -100.0, 98: 1.5},
        allowed_token_ids=[97, 98],
        forced_token_ids=[99, 100],
        n=2,
    )
    stopping = Stopping(min_tokens=3, max_tokens=4, stop_token_sequences=[[120, 121], [122]])
    output = OutputOptions(logprobs=True, top_logprobs=2, prompt_logprobs=True)
    await events_of(system, request(sampling=sampling, stopping=stopping, output=output))
    (submit,) = system.worker.submits
    sent = submit.sampling
    assert (sent.min_p, sent.frequency_penalty, sent.presence_penalty) == (0.25, -0.5, 0.5)
    assert (sent.repetition_penalty, sent.no_repeat_ngram, sent.n) == (1.25, 3, 2)
    assert (dict(sent.logit_bias), list(sent.allowed_token_ids)) == (
        {97: -100.0, 98: 1.5},
        [97, 98],
    )
    assert list(submit.forced_token_ids) == [99, 100]
    assert [list(sequence.ids) for sequence in submit.stop_sequences] == [[120, 121], [122]]
    assert (submit.min_tokens, submit.max_tokens) == (3, 4)
    assert (submit.logprobs.generated, submit.logprobs.top, submit.logprobs.prompt) == (
        True,
        2,
        True,
    )


async def test_what_is_not_asked_for_is_not_sent(system: System) -> None:
    """A worker refuses what it does not know by its presence."""
    system.worker.reply = say("x")
    sampling = Sampling(min_p=0, frequency_penalty=0, repetition_penalty=1, no_repeat_ngram=0)
    await events_of(system, request(sampling=sampling, stopping=Stopping(min_tokens=0)))
    (submit,) = system.worker.submits
    assert {field.name for field, _ in submit.sampling.ListFields()} == {
        "temperature",
        "top_p",
        "top_k",
        "seed",
        "n",
    }
    assert not submit.HasField("logprobs") and not submit.HasField("min_tokens")
    assert not submit.forced_token_ids and not submit.stop_sequences


async def test_bad_words_are_spelled_with_and_without_a_space(system: System) -> None:
    sampling = Sampling(bad_words=["no", " no", "é"])
    await events_of(system, request(sampling=sampling))
    (submit,) = system.worker.submits
    spelled = [bytes(word.ids).decode() for word in submit.sampling.bad_words]
    assert spelled == ["no", " no", "  no", "é", " é"]
    assert system.tokenizer.calls == ["Encode", "Encode"]


async def test_a_bad_word_that_is_no_token_is_refused_by_its_place(system: System) -> None:
    system.tokenizer.unknown_texts = {"\u00ad"}
    with pytest.raises(InvalidArgumentError) as raised:
        await events_of(system, request(sampling=Sampling(bad_words=["no", "\u00ad"])))
    assert raised.value.metadata["field"] == "sampling.bad_words[1]"
    assert not system.worker.submits


async def test_outputs_have_their_own_deltas_and_ends(system: System) -> None:
    system.worker.reply = say("héllo")
    events = await events_of(system, request(sampling=Sampling(n=3), stopping=Stopping()))
    assert [text_of(events, index) for index in range(3)] == ["héllo"] * 3
    assert [(f.output_index, f.reason, f.stop_token_id) for f in finished_of(events)] == [
        (index, FinishReason.STOP, EOS_ID) for index in range(3)
    ]
    assert usage_of(events).num_completion_tokens == 3 * 7
    assert usage_of(events).num_prompt_tokens == 2


async def test_a_cancel_before_the_submit_finishes_every_output(system: System) -> None:
    system.tokenizer.encoding_allowed.clear()
    cancellation = Cancellation()
    asked = request(sampling=Sampling(n=3))
    generation = system.gateway.generation.generate(asked, cancellation)
    running = asyncio.create_task(_all(generation))
    await until(lambda: system.tokenizer.calls == ["Encode"])
    cancellation.ask()
    events = await running
    assert [(f.output_index, f.reason) for f in finished_of(events)] == [
        (index, FinishReason.CANCELLED) for index in range(3)
    ]
    system.tokenizer.encoding_allowed.set()
    assert not system.worker.submits


async def _all(events: Any) -> list[Event]:
    async with aclosing(events):
        return [event async for event in events]


async def test_outputs_count_as_requests_that_are_open(system: System) -> None:
    held = system.gateway.generation.generate(request(sampling=Sampling(n=32)))
    other = system.gateway.generation.generate(request(sampling=Sampling(n=32)))
    async with aclosing(held), aclosing(other):
        await anext(held)
        await anext(other)
        with pytest.raises(ResourceExhaustedError) as raised:
            await events_of(system, request())
    assert raised.value.reason == "GATEWAY_FULL"
    assert text_of(await events_of(system, request())) == "abab"


async def test_log_probabilities_come_with_their_tokens(system: System) -> None:
    system.worker.reply = say("hé")
    output = OutputOptions(logprobs=True, top_logprobs=2)
    events = await events_of(system, request(stopping=Stopping(), output=output))
    tokens = tokens_of(events)
    assert bytes(token.id for token in tokens) == "hé".encode()  # without the stop id
    assert [token.bytes for token in tokens] == [b"h", b"\xc3", b"\xa9"]
    assert [token.logprob for token in tokens] == [logprob_of(token.id) for token in tokens]
    assert [(top.id, top.bytes, top.logprob) for top in tokens[0].top] == [
        (97, b"a", 0.0),
        (98, b"b", -0.5),
    ]
    assert text_of(events) == "hé"
    await events_of(system, request(output=output))
    assert system.tokenizer.calls.count("Decode") == 1  # one table for all requests


async def test_log_probabilities_alone_need_no_table(system: System) -> None:
    events = await events_of(system, request(output=OutputOptions(logprobs=True)))
    assert [token.logprob for token in tokens_of(events)] == [logprob_of(i) for i in b"abab"]
    assert all(not token.top for token in tokens_of(events))
    assert "Decode" not in system.tokenizer.calls


async def test_tokens_without_log_probabilities_have_none(system: System) -> None:
    events = await events_of(system, request(output=OutputOptions(token_ids=True)))
    assert [(t.id, t.bytes, t.logprob, t.top) for t in tokens_of(events)[:1]] == [
        (97, b"a", None, ())
    ]
    assert accepted_of(events).prompt_tokens == ()


async def test_tokens_after_a_stop_text_have_no_log_probabilities(system: System) -> None:
    stopping = Stopping(stop=["ba"], min_tokens=3)
    output = OutputOptions(logprobs=True)
    events = await events_of(system, request(stopping=stopping, output=output))
    assert text_of(events) == "aba"
    assert [token.id for token in tokens_of(events)] == list(b"ababa")
    assert [token.logprob for token in tokens_of(events)] == [logprob_of(i) for i in b"ababa"]


async def test_prompt_log_probabilities_come_with_accepted(system: System) -> None:
    output = OutputOptions(prompt_logprobs=True, top_logprobs=1)
    events = await events_of(
        system, request(prompt="hey", stopping=Stopping(max_tokens=0), output=output)
    )
    first, *rest = accepted_of(events).prompt_tokens
    assert (first.id, first.bytes, first.logprob, first.top) == (104, b"h", None, ())
    assert [(t.bytes, t.logprob) for t in rest] == [
        (b"e", logprob_of(101)),
        (b"y", logprob_of(121)),
    ]
    assert [top.bytes for top in rest[0].top] == [b"a"]
    (finished,) = finished_of(events)
    assert (finished.reason, usage_of(events).num_completion_tokens) == (FinishReason.LENGTH, 0)


async def test_echo_begins_each_output_with_the_prompt(system: System) -> None:
    sampling, output = Sampling(n=2), OutputOptions(echo=True)
    events = await events_of(system, request(prompt="héy", sampling=sampling, output=output))
    assert [text_of(events, index) for index in range(2)] == ["héyabab"] * 2
    assert usage_of(events).num_completion_tokens == 8
    assert isinstance(events[0], Accepted) and not events[0].prompt_tokens
    ids = list("héy".encode())
    events = await events_of(system, request(token_ids=[*ids, EOS_ID], output=output))
    assert text_of(events) == "héyabab"
    output = OutputOptions(echo=True, token_ids=True)
    events = await events_of(system, request(token_ids=ids, output=output))
    assert [(token.id, token.logprob) for token in accepted_of(events).prompt_tokens] == [
        (id_, None) for id_ in ids
    ]
    output = OutputOptions(echo=True, text=False)
    assert text_of(await events_of(system, request(output=output))) == ""


async def test_a_stop_text_is_not_looked_for_in_the_echo(system: System) -> None:
    stopping, output = Stopping(stop=["ba"]), OutputOptions(echo=True)
    events = await events_of(system, request(prompt="baba", stopping=stopping, output=output))
    assert text_of(events) == "babaa"


async def test_a_stop_sequence_is_no_part_of_the_output(system: System) -> None:
    for include, text in ((False, "a"), (True, "abab")):
        stopping = Stopping(stop_token_sequences=[[1, 2], list(b"bab")], include_stop=include)
        output = OutputOptions(token_ids=True)
        events = await events_of(system, request(stopping=stopping, output=output))
        assert text_of(events) == text
        assert bytes(token.id for token in tokens_of(events)) == text.encode()
        (finished,) = finished_of(events)
        assert (finished.reason, finished.stop_token_sequence) == (FinishReason.STOP, [*b"bab"])
        assert usage_of(events).num_completion_tokens == 4


async def test_forced_ids_are_part_of_the_output(system: System) -> None:
    sampling = Sampling(forced_token_ids=list(b"xyz"))
    events = await events_of(system, request(sampling=sampling))
    assert text_of(events) == "xyza"
    assert usage_of(events).num_completion_tokens == 4
