"""The life of a request through real sockets: what it sends, what it gets, how it ends."""

from __future__ import annotations

import asyncio
import itertools
import time
from contextlib import aclosing
from typing import Any, TypeVar

import pytest

from gateway.events import Accepted, Delta, Event, Finished, FinishReason, Usage
from gateway.request import Chat, GenerationRequest, Message, OutputOptions, Sampling, Stopping
from octavo.client.services.tokenizer import TokenizerClient
from octavo.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
)
from octavo.v1 import worker_pb2
from tests.gateway.conftest import System
from tests.gateway.fake_tokenizer import EOS_ID
from tests.gateway.fake_worker import MAX_CONTEXT, chatter, say
from tests.gateway.waiting import until

_T = TypeVar("_T")


def request(**fields: Any) -> GenerationRequest:
    if not fields.keys() & {"token_ids", "chat"}:
        fields.setdefault("prompt", "hi")
    return GenerationRequest(request_id="r1", arrived_at=time.monotonic(), **fields)


async def events_of(system: System, asked: GenerationRequest) -> list[Event]:
    async with aclosing(system.gateway.generation.generate(asked)) as events:
        return [event async for event in events]


def fingerprint_of(client: TokenizerClient) -> str | None:
    return client.description.fingerprint if client.description else None


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


def the(events: list[Event], kind: type[_T]) -> _T:
    found = [event for event in events if isinstance(event, kind)]
    assert len(found) == 1
    return found[0]


async def test_events_come_in_order_and_the_stop_id_is_no_text(system: System) -> None:
    system.worker.reply = say("héllo")
    events = await events_of(system, request())
    assert [type(event) for event in events[:2]] == [Accepted, Delta]
    assert [type(event) for event in events[-2:]] == [Finished, Usage]
    assert text_of(events) == "héllo"
    accepted, usage = the(events, Accepted), the(events, Usage)
    assert (accepted.num_prompt_tokens, accepted.num_cached_prompt_tokens) == (2, 3)
    assert the(events, Finished) == Finished(
        output_index=0, reason=FinishReason.STOP, stop_token_id=EOS_ID
    )
    assert usage.num_completion_tokens == 7  # six bytes and the end of the sequence
    assert (usage.queue_ms, usage.prefill_ms, usage.decode_ms) == (1, 2, 3)
    assert usage.first_token_ms > 0


async def test_include_stop_keeps_the_stop_id_among_the_tokens(system: System) -> None:
    system.worker.reply = say("ab")
    options = OutputOptions(token_ids=True)
    for include in (False, True):
        stopping = Stopping(include_stop=include)
        events = await events_of(system, request(stopping=stopping, output=options))
        tokens = [token for e in events if isinstance(e, Delta) for token in e.tokens]
        assert b"".join(token.bytes for token in tokens) == b"ab"
        assert (EOS_ID in [token.id for token in tokens]) is include


async def test_a_stop_text_ends_the_output_and_the_worker(system: System) -> None:
    system.worker.reply = chatter  # ababab…
    for include, expected in ((False, "a"), (True, "abab")):
        stopping = Stopping(stop=["zzz", "bab"], include_stop=include)
        events = await events_of(system, request(prompt="x", stopping=stopping))
        assert the(events, Finished).stop_text == "bab"
        assert text_of(events) == expected
        assert the(events, Usage).num_completion_tokens == 4  # what came after is not counted
        await until(lambda: system.worker.kv_blocks_used == 0)
    assert len(system.worker.cancelled_keys) == 2


async def test_a_finished_request_is_not_cancelled_again(system: System) -> None:
    system.worker.reply = say("done")
    await events_of(system, request())
    await events_of(system, request())
    assert system.worker.cancelled_keys == []


async def test_max_tokens_and_the_context_end_an_output(system: System) -> None:
    events = await events_of(system, request(stopping=Stopping(max_tokens=5)))
    assert the(events, Finished).reason is FinishReason.LENGTH
    assert text_of(events) == "ababa"
    events = await events_of(system, request(token_ids=[1] * (MAX_CONTEXT - 3)))
    assert the(events, Finished).reason is FinishReason.CONTEXT_LENGTH
    assert text_of(events) == "aba"
    assert not system.worker.submits[-1].HasField("max_tokens")


async def test_a_time_limit_keeps_the_text_so_far(system: System) -> None:
    events = await events_of(system, request(stopping=Stopping(time_limit_ms=40)))
    assert the(events, Finished).reason is FinishReason.TIME_LIMIT
    assert text_of(events).startswith("ab")
    assert 1 <= system.worker.submits[0].time_limit_ms <= 40


async def test_defaults_are_resolved_and_a_seed_is_drawn(system: System) -> None:
    system.worker.reply = say("x")
    accepted = the(await events_of(system, request()), Accepted)
    sampling = system.worker.submits[0].sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (1.0, 1.0, 0)
    assert (sampling.n, sampling.seed) == (1, accepted.seed)
    given = Sampling(temperature=0.0, top_p=0.5, top_k=7, seed=-4)
    accepted = the(await events_of(system, request(sampling=given)), Accepted)
    sampling = system.worker.submits[1].sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.0, 0.5, 7)
    assert (sampling.seed, accepted.seed) == (-4, -4)


async def test_eos_ids_are_stop_ids_unless_ignored(system: System) -> None:
    system.worker.reply = say("x")
    await events_of(system, request(stopping=Stopping(stop_token_ids=[7])))
    stopping = Stopping(stop_token_ids=[7], ignore_eos=True, max_tokens=1)
    await events_of(system, request(stopping=stopping))
    given, ignoring = system.worker.submits
    assert list(given.stop_token_ids) == [EOS_ID, 7]
    assert list(ignoring.stop_token_ids) == [7]


async def test_a_conversation_goes_through_the_template(system: System) -> None:
    system.worker.reply = say("x")
    chat = Chat(messages=[Message(role="user", content="hé")])
    await events_of(system, request(chat=chat))
    prompt = bytes(system.worker.submits[0].prompt_token_ids)
    assert prompt.decode() == "<user>hé<assistant>"


async def test_without_text_the_tokenizer_is_not_asked(system: System) -> None:
    system.worker.reply = say("abc")
    options = OutputOptions(text=False, token_ids=True)
    events = await events_of(system, request(token_ids=[1, 2], output=options))
    assert [t.id for e in events if isinstance(e, Delta) for t in e.tokens] == list(b"abc")
    assert text_of(events) == ""
    assert system.tokenizer.calls == [] and system.tokenizer.frames == []


async def test_an_output_that_a_stop_text_ended_is_made_no_further_while_others_are(
    system: System,
) -> None:
    texts = itertools.cycle([b"ab.", b"cdefg" * 100])
    system.worker.reply = lambda _: next(texts)
    asked = request(sampling=Sampling(n=2), stopping=Stopping(stop=["."], max_tokens=100))
    events = await events_of(system, asked)
    ends = {event.output_index: event for event in events if isinstance(event, Finished)}
    assert (ends[0].reason, ends[0].stop_text) == (FinishReason.STOP, ".")
    assert (ends[1].reason, ends[1].stop_text) == (FinishReason.LENGTH, None)
    assert system.worker.cancelled_outputs == [(1, 0)]
    assert the(events, Usage).num_completion_tokens == 3 + 100
    assert the(events, Usage).decode_ms == 3  # the worker's own: it came to its end


async def test_stop_texts_work_without_text(system: System) -> None:
    stopping = Stopping(stop=["ba"])
    events = await events_of(system, request(stopping=stopping, output=OutputOptions(text=False)))
    assert the(events, Finished).stop_text == "ba"
    assert text_of(events) == ""


async def test_a_prompt_that_is_too_long_names_field_value_and_limit(system: System) -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        await events_of(system, request(prompt="x" * MAX_CONTEXT))
    assert raised.value.metadata == {
        "field": "prompt",
        "value": f"{MAX_CONTEXT} tokens",
        "limit": f"at most {MAX_CONTEXT - 1} tokens",
    }
    assert system.worker.submits == []


async def test_a_refusal_of_the_worker_reaches_the_client(system: System) -> None:
    system.worker.error = worker_pb2.RunError(
        code=8, reason="QUEUE_FULL", message="full", retry_delay_ms=250
    )
    with pytest.raises(ResourceExhaustedError) as raised:
        await events_of(system, request())
    assert (raised.value.reason, raised.value.retry_delay_ms) == ("QUEUE_FULL", 250)


async def test_deadlines_reach_the_worker_and_end_the_request(system: System) -> None:
    with pytest.raises(DeadlineExceededError):
        await events_of(system, request(deadline_at=time.monotonic() + 0.1))
    assert 1 <= system.worker.submits[0].deadline_ms <= 100
    await until(lambda: system.worker.kv_blocks_used == 0)
    with pytest.raises(DeadlineExceededError):
        await events_of(system, request(deadline_at=time.monotonic() - 1))
    assert len(system.worker.submits) == 1


async def test_a_deadline_bounds_a_slow_tokenizer(system: System) -> None:
    system.tokenizer.encoding_allowed.clear()
    with pytest.raises(DeadlineExceededError):
        await events_of(system, request(deadline_at=time.monotonic() + 0.1))
    assert system.worker.submits == []


async def test_closing_the_events_frees_the_worker(system: System) -> None:
    async with aclosing(system.gateway.generation.generate(request())) as events:
        async for event in events:
            if isinstance(event, Delta):
                break
        assert system.worker.kv_blocks_used == 1
    await until(lambda: system.worker.kv_blocks_used == 0, within_s=1)
    assert system.gateway.admission.num_requests == 0


async def test_a_slow_reader_gets_few_large_deltas(system: System) -> None:
    asked = request(stopping=Stopping(max_tokens=200))
    async with aclosing(system.gateway.generation.generate(asked)) as events:
        received: list[Event] = [await anext(events), await anext(events)]
        await until(lambda: system.worker.kv_blocks_used == 0)
        await until(lambda: len(system.tokenizer.frames) > 0)
        # Another request runs from end to end meanwhile.
        other = await events_of(system, request(stopping=Stopping(max_tokens=3)))
        assert text_of(other) == "aba"
        received += [event async for event in events]
    deltas = [event for event in received if isinstance(event, Delta)]
    assert text_of(received) == "ab" * 100
    assert len(deltas) <= 4


async def test_all_requests_of_a_step_share_a_frame(system: System) -> None:
    system.worker.stepping.clear()
    asked = [request(stopping=Stopping(max_tokens=20)) for _ in range(8)]
    running = [asyncio.create_task(events_of(system, one)) for one in asked]
    await until(lambda: len(system.worker.submits) == 8)
    system.worker.stepping.set()
    for events in await asyncio.gather(*running):
        assert text_of(events) == "ab" * 10
    assert sum(len(frame.entries) for frame in system.tokenizer.frames) <= 8 * 20
    assert len(system.tokenizer.frames) <= 20


async def test_a_killed_worker_ends_its_requests_and_heals(system: System) -> None:
    running = asyncio.create_task(events_of(system, request()))
    await until(lambda: len(system.tokenizer.frames) > 2)
    await system.worker.kill()
    with pytest.raises(UnavailableError) as raised:
        await running
    assert raised.value.reason == "WORKER_LOST"
    assert raised.value.retry_delay_ms
    assert not system.gateway.generation.is_ready()
    began_at = time.monotonic()
    with pytest.raises(UnavailableError) as raised:
        await events_of(system, request())
    assert raised.value.reason == "NO_WORKER"
    assert time.monotonic() - began_at < 0.1
    await system.worker.start()
    await until(system.gateway.generation.is_ready)
    assert text_of(await events_of(system, request(stopping=Stopping(max_tokens=2)))) == "ab"


async def test_a_killed_tokenizer_ends_its_requests_and_heals(system: System) -> None:
    running = asyncio.create_task(events_of(system, request()))
    await until(lambda: len(system.tokenizer.frames) > 2)
    await system.tokenizer.kill()
    with pytest.raises(UnavailableError) as raised:
        await running
    assert raised.value.reason == "TOKENIZER_LOST"
    await until(lambda: system.worker.kv_blocks_used == 0)
    with pytest.raises(UnavailableError) as raised:
        await events_of(system, request())
    assert raised.value.reason == "NO_TOKENIZER"
    await system.tokenizer.start()
    await until(system.gateway.generation.is_ready)
    assert text_of(await events_of(system, request(stopping=Stopping(max_tokens=2)))) == "ab"


async def test_readiness_follows_the_health_of_the_others(system: System) -> None:
    is_ready = system.gateway.generation.is_ready
    for peer in (system.worker, system.tokenizer):
        await peer.set_serving(False)
        await until(lambda: not is_ready(), within_s=1)
        await peer.set_serving(True)
        await until(is_ready, within_s=1)


async def test_a_draining_worker_finishes_what_it_has(system: System) -> None:
    asked = request(stopping=Stopping(max_tokens=50))
    async with aclosing(system.gateway.generation.generate(asked)) as events:
        received: list[Event] = [await anext(events)]
        await system.worker.set_serving(False)
        received += [event async for event in events]
    assert text_of(received) == "ab" * 25


async def test_another_tokenizer_is_a_failed_precondition(system: System) -> None:
    await system.tokenizer.kill()
    system.tokenizer.fingerprint = "other"
    await system.tokenizer.start()
    client = system.gateway.tokenizers[0]
    await until(lambda: client.is_ready and fingerprint_of(client) == "other")
    assert not system.gateway.generation.is_ready()
    with pytest.raises(FailedPreconditionError) as raised:
        await events_of(system, request())
    assert raised.value.reason == "TOKENIZER_MISMATCH"
    assert raised.value.metadata["tokenizer_fingerprint"] == "other"


async def test_an_unknown_model_is_not_found(system: System) -> None:
    with pytest.raises(NotFoundError) as raised:
        await events_of(system, request(model="huge"))
    assert raised.value.reason == "MODEL_NOT_FOUND"
    assert "tiny" in raised.value.message


async def test_a_drain_finishes_what_is_open_and_refuses_the_rest(system: System) -> None:
    asked = request(stopping=Stopping(max_tokens=50))
    open_one = asyncio.create_task(events_of(system, asked))
    await until(lambda: system.worker.kv_blocks_used == 1)
    drained = asyncio.create_task(system.gateway.drain())
    await until(lambda: not system.gateway.generation.is_ready())
    with pytest.raises(UnavailableError) as raised:
        await events_of(system, request())
    assert raised.value.reason == "DRAINING"
    assert text_of(await open_one) == "ab" * 25
    await asyncio.wait_for(drained, 5)
