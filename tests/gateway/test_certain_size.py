"""What cannot fit into one message is refused before a worker hears of it, and nothing else is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.answer_size import MAX_TOKENS_HELD
from gateway.model_checks import check_prompt_length
from gateway.request import GenerationRequest, OutputOptions, Sampling, Stopping
from octavo.errors import InvalidArgumentError
from tests.gateway.openai.fake_generation import card

MODEL = replace(card(), max_context_tokens=2**21)
SCORES = OutputOptions(logprobs=True, top_logprobs=19)
MOST = MAX_TOKENS_HELD // (4 * 20)  # tokens of each of 4 outputs
ENDLESS = {"ignore_eos": True}


def check(
    stopping: dict[str, Any],
    *,
    forced: int = 0,
    output: OutputOptions = SCORES,
    sent_at_once: bool = True,
) -> None:
    request = GenerationRequest(
        request_id="r",
        arrived_at=0.0,
        prompt="hi",
        sampling=Sampling(n=4, forced_token_ids=[1] * forced),
        stopping=Stopping(**stopping),
        output=output,
        sent_at_once=sent_at_once,
    )
    check_prompt_length(request, 2, MODEL)


@pytest.mark.parametrize(
    ("stopping", "forced", "field", "value"),
    [
        ({**ENDLESS, "max_tokens": MOST + 1}, 0, "stopping.max_tokens", str(MOST + 1)),
        (ENDLESS, 0, "stopping.max_tokens", "absent"),
        ({"min_tokens": MOST + 1}, 0, "stopping.min_tokens", str(MOST + 1)),
        ({}, MOST + 1, "sampling.forced_token_ids", f"{MOST + 1} ids"),
    ],
)
def test_what_is_certain_is_refused(
    stopping: dict[str, Any], forced: int, field: str, value: str
) -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        check(stopping, forced=forced)
    found = raised.value.metadata
    assert (raised.value.reason, found["field"], found["value"]) == ("INVALID_FIELD", field, value)
    assert found["limit"].startswith(f"at most {MOST} ")


@pytest.mark.parametrize(
    "stopping",
    [
        {**ENDLESS, "max_tokens": MOST},
        {"min_tokens": MOST, "max_tokens": 2 * MOST},
        {"max_tokens": 2 * MOST},  # the model may end it before
        {**ENDLESS, "stop": ["."]},
        {**ENDLESS, "stop_token_ids": [5]},
        {**ENDLESS, "stop_token_sequences": [[5, 6]]},
        {**ENDLESS, "time_limit_ms": 1_000},
    ],
)
def test_what_may_fit_is_not(stopping: dict[str, Any]) -> None:
    check(stopping)


def test_a_stream_and_text_alone_have_no_such_limit() -> None:
    check(ENDLESS, sent_at_once=False)
    check(ENDLESS, output=OutputOptions())


def test_the_context_ends_an_output_too() -> None:
    small = replace(MODEL, max_context_tokens=MOST)
    request = GenerationRequest(
        request_id="r",
        arrived_at=0.0,
        prompt="hi",
        sampling=Sampling(n=4),
        stopping=Stopping(ignore_eos=True, max_tokens=2 * MOST),
        output=SCORES,
        sent_at_once=True,
    )
    check_prompt_length(request, 2, small)
