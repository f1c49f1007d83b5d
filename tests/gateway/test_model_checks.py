"""What a request may not ask of its model and of the workers that serve it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.accepted_fields import ACCEPTED, bounded_by, capabilities
from gateway.answer_size import MAX_TOKENS_HELD
from gateway.model_card import GenerationDefaults, ModelCard
from gateway.model_checks import check_against_model, check_prompt_length
from gateway.request import (
    Chat,
    GenerationRequest,
    Message,
    OutputOptions,
    Sampling,
    Stopping,
)
from gateway.validation import check_request
from octavo.client.services.worker_types import WorkerDescription
from octavo.errors import InvalidArgumentError

MODEL = ModelCard(
    name="tiny",
    created_at_s=1,
    max_context_tokens=16,
    vocabulary_size=50,
    eos_token_ids=(2,),
    tokenizer_fingerprint="t",
    checkpoint_fingerprint="c",
    has_chat_template=False,
    defaults=GenerationDefaults(temperature=1, top_p=1, top_k=0),
    capabilities=capabilities(max_prompt_bytes=100, max_session_requests=4),
    ready=True,
)
WORKER = WorkerDescription(
    worker_id="w",
    instance_id="1",
    ranks=1,
    model="tiny",
    max_context_tokens=16,
    vocabulary_size=50,
    eos_token_ids=(2,),
    default_temperature=None,
    default_top_p=None,
    default_top_k=None,
    checkpoint_fingerprint="c",
    tokenizer_fingerprint="t",
    numerics_fingerprint="n",
    fields=("sampling.min_p", "logprobs.generated"),
    max_outputs=4,
    max_top_logprobs=0,
)


def request(**fields: Any) -> GenerationRequest:
    if not fields.keys() & {"prompt", "token_ids", "chat"}:
        fields["prompt"] = "x"
    return GenerationRequest(request_id="r", arrived_at=0.0, **fields)


def refusal(asked: GenerationRequest, model: ModelCard = MODEL) -> InvalidArgumentError:
    check_request(asked, max_prompt_bytes=1_000)
    with pytest.raises(InvalidArgumentError) as raised:
        check_against_model(asked, model)
    return raised.value


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        (request(prompt="x" * 101), "prompt"),
        (request(token_ids=[1, 50]), "token_ids[1]"),
        (request(token_ids=[1] * 16), "token_ids"),
        (request(stopping=Stopping(stop_token_ids=[50])), "stopping.stop_token_ids[0]"),
        (request(stopping=Stopping(stop_token_ids=[1, -1])), "stopping.stop_token_ids[1]"),
        (request(sampling=Sampling(allowed_token_ids=[2**64])), "sampling.allowed_token_ids[0]"),
        (
            request(stopping=Stopping(stop_token_sequences=[[1], [1, 50]])),
            "stopping.stop_token_sequences[1][1]",
        ),
        (request(sampling=Sampling(allowed_token_ids=[1, 2, 99])), "sampling.allowed_token_ids[2]"),
        (request(sampling=Sampling(forced_token_ids=[50])), "sampling.forced_token_ids[0]"),
        (request(sampling=Sampling(logit_bias={1: 1.0, 50: 1.0})), "sampling.logit_bias[50]"),
        (
            request(token_ids=[1] * 9, sampling=Sampling(forced_token_ids=[1] * 8)),
            "sampling.forced_token_ids",
        ),
        (request(chat=Chat(messages=[Message(role="user", content="x")])), "chat"),
    ],
)
def test_what_the_model_does_not_have_is_refused(asked: GenerationRequest, field: str) -> None:
    error = refusal(asked)
    assert error.metadata["field"] == field
    assert {"value", "limit"} <= error.metadata.keys()


def test_prompt_and_forced_ids_fill_the_context_at_most() -> None:
    asked = request(token_ids=[1] * 9, sampling=Sampling(forced_token_ids=[1] * 7))
    check_against_model(asked, MODEL)
    check_prompt_length(request(), 15, MODEL)
    for num_tokens in (0, 16):
        with pytest.raises(InvalidArgumentError, match=f"prompt is {num_tokens} tokens"):
            check_prompt_length(request(), num_tokens, MODEL)


def test_the_least_tokens_fit_into_the_context() -> None:
    asked = request(stopping=Stopping(min_tokens=7))
    check_prompt_length(asked, 9, MODEL)
    with pytest.raises(InvalidArgumentError, match=r"min_tokens is 7; it must be at most 6, the"):
        check_prompt_length(asked, 10, MODEL)


def test_what_the_workers_do_not_take_is_neither_advertised_nor_accepted() -> None:
    bounded = bounded_by(MODEL.capabilities, WORKER, max_text_bytes=60)
    assert (bounded.max_outputs, bounded.max_top_logprobs, bounded.max_prompt_bytes) == (4, 0, 60)
    missing = set(ACCEPTED) - set(bounded.fields)
    assert "sampling.logit_bias" in missing and "output.prompt_logprobs" in missing
    assert not missing & {"sampling.min_p", "output.logprobs", "sampling.temperature", "prompt"}
    model = replace(MODEL, capabilities=bounded)
    check_against_model(request(sampling=Sampling(min_p=0.5, n=4)), model)
    assert refusal(request(sampling=Sampling(n=5)), model).metadata["field"] == "sampling.n"
    error = refusal(request(sampling=Sampling(bad_words=["x"])), model)
    assert (error.reason, error.metadata) == (
        "UNSUPPORTED_FIELD",
        {"field": "sampling.bad_words"},
    )
    top = request(output=OutputOptions(logprobs=True, top_logprobs=1))
    with_top = replace(bounded, fields=(*bounded.fields, "output.top_logprobs"))
    error = refusal(top, replace(MODEL, capabilities=with_top))
    assert error.metadata["field"] == "output.top_logprobs"


def test_a_prompts_log_probabilities_fit_into_one_message() -> None:
    model = replace(MODEL, max_context_tokens=2**20)
    asked = request(output=OutputOptions(prompt_logprobs=True, top_logprobs=20))
    check_prompt_length(asked, MAX_TOKENS_HELD // 21, model)
    with pytest.raises(InvalidArgumentError) as raised:
        check_prompt_length(asked, MAX_TOKENS_HELD // 21 + 1, model)
    assert raised.value.metadata["field"] == "output.prompt_logprobs"
    without = request(output=OutputOptions(logprobs=True, top_logprobs=20))
    check_prompt_length(without, MAX_TOKENS_HELD, model)
