"""What clients ask of sampling, through every door of the running product."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import openai
import pytest

from octavo.v1 import generation_pb2 as pb
from octavo.v1.generation_pb2_grpc import GenerationServiceStub, ModelServiceStub
from tests.end_to_end.product import Product

PROMPT = [5, 6, 7]


@pytest.fixture
def stub(tiny: Product) -> Iterator[GenerationServiceStub]:
    with tiny.generation() as stub:
        yield stub


@pytest.fixture
def client(tiny: Product) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{tiny.http}/v1", api_key="none", max_retries=0) as client:
        yield client


def ask(**fields: Any) -> pb.GenerateRequest:
    """A request of six tokens, greedy unless said otherwise, with their ids."""
    sampling = {"temperature": 0.0, **fields.pop("sampling", {})}
    stopping = {"max_tokens": 6, "ignore_eos": True, **fields.pop("stopping", {})}
    output = {"token_ids": True, **fields.pop("output", {})}
    return pb.GenerateRequest(
        token_ids=pb.TokenIds(ids=fields.pop("ids", PROMPT)),
        sampling=pb.SamplingParameters(**sampling),
        stopping=pb.StoppingParameters(**stopping),
        output=pb.OutputOptions(**output),
    )


def ids_of(answer: pb.GenerateResponse, index: int = 0) -> list[int]:
    return [token.id for token in answer.outputs[index].tokens]


def test_three_ways_to_score_agree(stub: GenerationServiceStub) -> None:
    made = stub.Generate(ask(output={"logprobs": True, "top_logprobs": 20}))
    scores = [token.logprob for token in made.outputs[0].tokens]
    for token in made.outputs[0].tokens:
        assert [top.logprob for top in token.top] == sorted(
            (top.logprob for top in token.top), reverse=True
        )
        assert (token.top[0].id, token.top[0].logprob) == (token.id, token.logprob)  # greedy
        assert token.top[0].bytes == token.bytes
    ids = ids_of(made)
    forced = stub.Generate(ask(sampling={"forced_token_ids": ids}, output={"logprobs": True}))
    assert [token.logprob for token in forced.outputs[0].tokens] == pytest.approx(scores, abs=1e-4)
    whole = ask(
        ids=[*PROMPT, *ids],
        stopping={"max_tokens": 0},
        output={"prompt_logprobs": True},
    )
    scored = stub.Generate(whole)
    prompt = scored.accepted.prompt_tokens
    assert [token.id for token in prompt] == [*PROMPT, *ids]
    assert not prompt[0].HasField("logprob")
    assert [token.logprob for token in prompt[3:]] == pytest.approx(scores, abs=1e-4)
    assert scored.outputs[0].finished.reason == pb.FINISH_REASON_LENGTH
    assert scored.usage.completion_token_count == 0


def test_outputs_share_a_prompt_and_differ(stub: GenerationServiceStub) -> None:
    drawn = {"temperature": 1.0, "seed": 7}
    several = stub.Generate(ask(sampling={**drawn, "n": 4}, output={"echo": True}))
    alone = stub.Generate(ask(sampling=drawn))
    assert [output.output_index for output in several.outputs] == [0, 1, 2, 3]
    assert ids_of(several) == ids_of(alone)
    assert len({tuple(ids_of(several, index)) for index in range(4)}) > 1
    assert several.usage.completion_token_count == 24
    greedy = stub.Generate(ask(sampling={"n": 2}))
    assert ids_of(greedy, 0) == ids_of(greedy, 1)
    begin = several.outputs[0].text.removesuffix(alone.outputs[0].text)
    assert all(output.text.startswith(begin) for output in several.outputs)


def test_rules_hold(stub: GenerationServiceStub) -> None:
    plain = ids_of(stub.Generate(ask()))
    allowed = {"allowed_token_ids": [40, 41, 42]}
    assert set(ids_of(stub.Generate(ask(sampling=allowed)))) <= {40, 41, 42}
    biased = ids_of(stub.Generate(ask(sampling={"logit_bias": {99: 100.0}})))
    assert biased == [99] * 6
    once = {"logit_bias": {99: 100.0}, "no_repeat_ngram": 1}
    assert ids_of(stub.Generate(ask(sampling=once))).count(99) == 1
    banned = ask(sampling={"logit_bias": dict.fromkeys(plain, -100.0)})
    assert not set(plain) & set(ids_of(stub.Generate(banned)))


def test_a_stop_sequence_is_hidden_and_min_tokens_hold_it_back(
    stub: GenerationServiceStub,
) -> None:
    plain = ids_of(stub.Generate(ask()))
    stop = {"stop_token_sequences": [{"ids": plain[2:4]}]}
    answer = stub.Generate(ask(stopping=stop))
    assert ids_of(answer) == plain[:2]
    assert list(answer.outputs[0].finished.stop_token_sequence.ids) == plain[2:4]
    assert answer.usage.completion_token_count == 4
    held = stub.Generate(ask(stopping={**stop, "min_tokens": 4}))
    assert ids_of(held) == plain
    shown = stub.Generate(ask(stopping={**stop, "include_stop": True}))
    assert ids_of(shown) == plain[:4]


def test_what_is_advertised_is_taken_up_to_its_limit(
    tiny: Product, stub: GenerationServiceStub
) -> None:
    with grpc.insecure_channel(tiny.grpc) as channel:
        model = ModelServiceStub(channel).GetModel(pb.GetModelRequest()).model
    limits = model.capabilities
    asked = ask(
        sampling={
            "n": limits.max_outputs,
            "no_repeat_ngram": limits.max_no_repeat_ngram,
            "bad_words": ["\N{LLAMA}" * (limits.max_bad_word_bytes // 4)] * limits.max_bad_words,
            "allowed_token_ids": list(range(model.vocabulary_size)),
            "logit_bias": dict.fromkeys(range(model.vocabulary_size), 1.0),
        },
        stopping={
            "stop": ["x" * limits.max_stop_text_bytes] * limits.max_stop_texts,
            "stop_token_ids": [0] * limits.max_stop_token_ids,
            "stop_token_sequences": [{"ids": [1] * limits.max_stop_sequence_tokens}]
            * limits.max_stop_token_sequences,
        },
        output={
            "logprobs": True,
            "top_logprobs": limits.max_top_logprobs,
            "prompt_logprobs": True,
            "echo": True,
        },
    )
    answer = stub.Generate(asked)
    assert len(answer.outputs) == limits.max_outputs >= 2
    assert len(answer.outputs[-1].tokens[0].top) == limits.max_top_logprobs


@pytest.mark.parametrize("stream", [False, True])
def test_choices_and_log_probabilities_of_a_chat(client: openai.OpenAI, stream: bool) -> None:
    create: Any = client.chat.completions.create
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5, "seed": 3, "n": 3}
    body |= {"logprobs": True, "top_logprobs": 2, "temperature": 1, "model": "chat-l0"}
    answer = create(**body)
    tokens = [
        [(token.token, token.logprob) for token in choice.logprobs.content]
        for choice in answer.choices
    ]
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert all(len(token.top_logprobs) == 2 for token in answer.choices[0].logprobs.content)
    if not stream:
        return
    texts, ends = [""] * 3, [""] * 3
    streamed: list[list[tuple[str, float]]] = [[], [], []]
    for chunk in create(**body, stream=True, stream_options={"include_usage": True}):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            ends[choice.index] = choice.finish_reason or ends[choice.index]
            for token in choice.logprobs.content if choice.logprobs else ():
                streamed[choice.index].append((token.token, token.logprob))
    assert streamed == tokens
    assert texts == [choice.message.content for choice in answer.choices]
    assert ends == [choice.finish_reason for choice in answer.choices]
    assert chunk.usage == answer.usage


def test_echo_scores_a_text(client: openai.OpenAI) -> None:
    text = "Hello wörld 🦙"
    create: Any = client.completions.create
    answer = create(model="chat-l0", prompt=text, echo=True, logprobs=1, max_tokens=0)
    choice = answer.choices[0]
    assert (choice.text, choice.finish_reason) == (text, "length")
    logprobs = choice.logprobs
    assert len(logprobs.tokens) == answer.usage.prompt_tokens
    assert logprobs.token_logprobs[0] is None
    assert all(-9999.0 <= value <= 0 for value in logprobs.token_logprobs[1:])
    assert logprobs.text_offset == sorted(logprobs.text_offset)
    assert logprobs.text_offset[-1] < len(text)
    whole = create(model="chat-l0", prompt=text, echo=True, max_tokens=3, temperature=0)
    assert whole.choices[0].text.startswith(text)


def test_tokenize_over_http_is_tokenize_over_grpc(
    tiny: Product, stub: GenerationServiceStub
) -> None:
    text = "Hello wörld 🦙"
    over_grpc = stub.Tokenize(pb.TokenizeRequest(text=text))
    with httpx.Client(base_url=tiny.http) as http:
        over_http = http.post("/v1/tokenize", json={"prompt": text}).json()
        assert over_http["tokens"] == list(over_grpc.token_ids)
        assert over_http["count"] == len(over_grpc.token_ids)
        body = {"tokens": over_http["tokens"], "skip_special_tokens": True}
        assert http.post("/v1/detokenize", json=body).json() == {"prompt": text}
        chat = pb.ChatInput(messages=[pb.ChatMessage(role="user", content=text)])
        rendered = stub.Tokenize(pb.TokenizeRequest(chat=chat))
        messages = [{"role": "user", "content": text}]
        answer = http.post("/v1/tokenize", json={"messages": messages}).json()
        assert answer["tokens"] == list(rendered.token_ids)
