"""What fails in one decoder is answered for its key alone, and logged under its request's id."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping, Sequence
from typing import Any

import pytest
import structlog

from octavo.v1 import tokenizer_pb2 as pb
from services.tokenizer.decode_session import DecodeSession
from services.tokenizer.stream_decoder import StreamDecoder
from tests.services.tokenizer import vocabularies

Lines = list[MutableMapping[str, Any]]


@pytest.fixture
def lines() -> Iterator[Lines]:
    with structlog.testing.capture_logs() as captured:
        yield captured


@pytest.fixture
def session(tmp_path_factory: pytest.TempPathFactory) -> DecodeSession:
    folder = tmp_path_factory.mktemp("tokenizers")
    return DecodeSession(vocabularies.backend_named("byte_level", folder), max_decoders=3)


def frame(opens: Sequence[int], *entries: pb.DecodeEntry) -> pb.StreamDecodeRequest:
    """Decoders of requests that are called after their keys, and entries."""
    return pb.StreamDecodeRequest(
        opens=[pb.OpenDecoder(key=key, request_id=f"req-{key}") for key in opens], entries=entries
    )


def errors_of(answer: pb.StreamDecodeResponse) -> dict[int, str]:
    return {entry.key: entry.error.reason for entry in answer.entries}


def test_a_refusal_is_logged_with_its_request(session: DecodeSession, lines: Lines) -> None:
    bad = pb.DecodeEntry(key=1, token_ids=[2**31])
    answer = session.answer(frame([1, 2], bad, pb.DecodeEntry(key=2, token_ids=[1])))
    assert errors_of(answer) == {1: "INVALID_FIELD", 2: ""}
    (line,) = lines
    assert (line["event"], line["log_level"]) == ("decoder failed", "info")
    assert (line["request_id"], line["reason"]) == ("req-1", "INVALID_FIELD")
    assert session.num_open == 1


def test_one_that_cannot_be_opened_is_too(session: DecodeSession, lines: Lines) -> None:
    answer = session.answer(frame([1, 2, 3, 4]))
    assert errors_of(answer) == {4: "TOO_MANY_DECODERS"}
    assert [line["request_id"] for line in lines] == ["req-4"]


def test_a_fault_of_ours_ends_its_own_output_alone(
    session: DecodeSession, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.answer(frame([1, 2]))
    add = StreamDecoder.add

    def broken(self: StreamDecoder, ids: Sequence[int], *, last: bool) -> Any:
        if self.request_id == "req-1":
            raise IndexError("a secret")
        return add(self, ids, last=last)

    monkeypatch.setattr(StreamDecoder, "add", broken)
    entries = [pb.DecodeEntry(key=key, token_ids=[1]) for key in (1, 2)]
    answer = session.answer(frame([], *entries))
    assert errors_of(answer) == {1: "INTERNAL", 2: ""}
    assert "secret" not in answer.entries[0].error.message
    (line,) = lines
    assert (line["log_level"], line["request_id"]) == ("error", "req-1")
    assert isinstance(line["exc_info"], IndexError)
