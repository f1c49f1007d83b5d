"""openai-python against a served socket: the client that most users have."""

from __future__ import annotations

import openai
import pytest

from gateway.events import Delta
from gateway.request import OutputOptions
from octavo.errors import ResourceExhaustedError, UnavailableError
from tests.gateway.openai.fake_generation import (
    MODEL,
    FakeGeneration,
    accepted,
    scored_script,
)


async def test_a_chat(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Where?"}], temperature=0
    )
    assert answer.choices[0].message.content == "Paris."
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 10


async def test_a_streamed_chat(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Where?"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    choices = [chunk.choices[0] for chunk in chunks[:-1]]
    assert "".join(choice.delta.content or "" for choice in choices) == "Paris."
    assert choices[0].delta.role == "assistant"
    assert choices[-1].finish_reason == "stop"
    usage = chunks[-1].usage
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == 4


async def test_a_completion(client: openai.AsyncOpenAI) -> None:
    answer = await client.completions.create(model=MODEL, prompt=[1, 2])
    assert answer.choices[0].text == "Paris."


async def test_a_streamed_completion(client: openai.AsyncOpenAI) -> None:
    stream = await client.completions.create(model=MODEL, prompt=["a", "b"], stream=True)
    texts = {0: "", 1: ""}
    async for chunk in stream:
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == {0: "Paris.", 1: "Paris."}


async def test_models(client: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == [MODEL]
    assert (await client.models.retrieve(MODEL)).id == MODEL


async def test_its_exceptions(client: openai.AsyncOpenAI, generation: FakeGeneration) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        await client.completions.create(model="other", prompt="a")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as wrong:
        await client.completions.create(model=MODEL, prompt="a", suffix="b")
    assert wrong.value.param == "suffix"
    generation.answer = lambda _: [ResourceExhaustedError("Full.", retry_delay_ms=1)]
    with pytest.raises(openai.RateLimitError):
        await client.completions.create(model=MODEL, prompt="a")


async def test_it_comes_back_after_the_delay(
    client: openai.AsyncOpenAI, generation: FakeGeneration
) -> None:
    whole = generation.answer
    full = ResourceExhaustedError("Full.", retry_delay_ms=1)
    generation.answer = lambda request: [full] if len(generation.requests) < 2 else whole(request)
    answer = await client.with_options(max_retries=1).completions.create(model=MODEL, prompt="a")
    assert answer.choices[0].text == "Paris."


async def test_a_failure_mid_stream_is_an_exception(
    client: openai.AsyncOpenAI, generation: FakeGeneration
) -> None:
    lost = UnavailableError("The worker is gone.", reason="WORKER_LOST")
    generation.answer = lambda _: [accepted(), Delta(output_index=0, text="a"), lost]
    stream = await client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "a"}], stream=True
    )
    with pytest.raises(openai.APIError, match=r"The worker is gone\."):
        [chunk async for chunk in stream]


async def test_log_probabilities_of_a_chat(
    client: openai.AsyncOpenAI, generation: FakeGeneration
) -> None:
    generation.answer = lambda _: scored_script()
    answer = await client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "a"}], logprobs=True, top_logprobs=2
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None and logprobs.content is not None
    assert [(token.token, token.logprob, token.bytes) for token in logprobs.content] == [
        ("Par", -0.5, [80, 97, 114]),
        ("\\xf0\\x9f", -9999.0, [0xF0, 0x9F]),
        ("\\xa6\\x99", -1.0, [0xA6, 0x99]),
    ]
    assert [top.token for top in logprobs.content[0].top_logprobs] == ["Par", "Lon"]
    assert generation.requests[0].output == OutputOptions(logprobs=True, top_logprobs=2)


async def test_log_probabilities_of_a_completion(
    client: openai.AsyncOpenAI, generation: FakeGeneration
) -> None:
    generation.answer = lambda _: scored_script()
    answer = await client.completions.create(model=MODEL, prompt="a", logprobs=2)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens == ["Par", "bytes:\\xf0\\x9f", "bytes:\\xa6\\x99"]
    assert logprobs.token_logprobs == [-0.5, -9999.0, -1.0]
    assert logprobs.text_offset == [0, 3, 3]
    assert logprobs.top_logprobs is not None
    assert logprobs.top_logprobs[0] == {"Par": -0.5, "Lon": -2.0}
