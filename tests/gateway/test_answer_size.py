"""What is held of an answer is bounded, wherever it is held."""

from __future__ import annotations

import pytest

from gateway.answer_size import MAX_BYTES_HELD, MAX_TOKENS_HELD, AnswerSize
from gateway.event_buffer import EventBuffer
from gateway.events import Delta, Token, TopToken
from gateway.grpc_api.convert_event import GenerateAnswer
from octavo.errors import InvalidArgumentError, ResourceExhaustedError

TOP = (TopToken(id=1, bytes=b"a", logprob=-1.0),)


def token(num_tokens: int) -> Token:
    """One that counts as many."""
    return Token(id=1, logprob=-1.0, top=TOP * (num_tokens - 1))


def test_the_likeliest_tokens_count() -> None:
    size = AnswerSize()
    size.add([token(MAX_TOKENS_HELD - 1)])
    size.add([Token(id=1)])
    with pytest.raises(InvalidArgumentError) as raised:
        size.add([Token(id=1)])
    assert raised.value.reason == "ANSWER_TOO_LARGE"
    assert raised.value.metadata["limit"].startswith(f"{MAX_TOKENS_HELD} tokens")


def test_bytes_count() -> None:
    size = AnswerSize()
    size.add([Token(id=1, bytes=b" " * 10)], "x" * (MAX_BYTES_HELD - 10))
    with pytest.raises(InvalidArgumentError) as raised:
        size.add([], "y")
    assert raised.value.metadata == {"limit": f"{MAX_BYTES_HELD} bytes"}


def test_an_answer_that_is_sent_at_once_is_bounded() -> None:
    answer = GenerateAnswer()
    answer.add(Delta(output_index=0, text="a", tokens=[token(1_000)]))
    with pytest.raises(InvalidArgumentError):
        answer.add(Delta(output_index=1, text="a", tokens=[token(MAX_TOKENS_HELD)]))


async def test_a_stream_that_is_read_is_not() -> None:
    buffer = EventBuffer()
    for _ in range(3):
        buffer.add_delta(0, "a", [token(MAX_TOKENS_HELD)])
        assert isinstance(await anext(buffer), Delta)
    assert not buffer.has_ended


async def test_a_stream_that_is_not_read_is() -> None:
    buffer = EventBuffer()
    buffer.add_delta(0, "a", [token(MAX_TOKENS_HELD)])
    buffer.add_delta(1, "b", [token(1)])
    buffer.add_delta(1, "c", [token(1)])
    with pytest.raises(ResourceExhaustedError) as raised:
        [event async for event in buffer]
    assert raised.value.reason == "SLOW_READER"
