"""octavo.errors: one table between exception, code and HTTP status."""

import pytest

from octavo.errors import (
    Code,
    InvalidArgumentError,
    InWords,
    OctavoError,
    UnknownError,
    error_from_code,
    http_status,
    invalid_field,
    unsupported_field,
)


@pytest.mark.parametrize("code", list(Code))
def test_every_code_has_an_exception_and_an_http_status(code: Code) -> None:
    error = error_from_code(int(code), "why", reason="R", metadata={"a": "b"}, retry_delay_ms=5)
    assert error.code is code
    assert (error.message, error.reason, error.metadata) == ("why", "R", {"a": "b"})
    assert error.retry_delay_ms == 5
    assert 400 <= http_status(code) < 600


def test_every_exception_has_a_code_of_its_own() -> None:
    codes = [exception.code for exception in OctavoError.__subclasses__()]
    assert sorted(codes) == sorted(Code)


@pytest.mark.parametrize("number", [0, 17, -1, 2**31])
def test_a_number_that_is_no_code_is_unknown(number: int) -> None:
    assert isinstance(error_from_code(number, "?"), UnknownError)


def test_the_reason_of_an_error_without_one_is_its_code() -> None:
    assert InvalidArgumentError("no").reason == "INVALID_ARGUMENT"


def test_an_invalid_field_names_field_value_and_limit() -> None:
    error = invalid_field("sampling.top_p", 1.5, "above 0 and at most 1")
    assert error.metadata == {
        "field": "sampling.top_p",
        "value": "1.5",
        "limit": "above 0 and at most 1",
    }
    assert "sampling.top_p" in error.message and "1.5" in error.message


def test_an_invalid_field_does_not_repeat_a_megabyte() -> None:
    error = invalid_field("request_id", "x" * 1_000_000, "at most 128 characters")
    assert len(error.message) < 200


def test_an_unsupported_field_is_named() -> None:
    assert unsupported_field("constraint").metadata == {"field": "constraint"}


@pytest.mark.parametrize(
    ("value", "told", "kept"),
    [
        (None, "absent", "absent"),
        (True, "true", "true"),
        (0.5, "0.5", "0.5"),
        ("a b", '"a b"', "a b"),
        (InWords("9 tokens"), "9 tokens", "9 tokens"),
        ("a\n\ud800", '"a\\n\\ud800"', "a\\n\\ud800"),
        ("x" * 100, '"' + "x" * 77 + '..."', "x" * 77 + "..."),
    ],
)
def test_a_wrong_value_is_told_as_its_reader_would_call_it(
    value: object, told: str, kept: str
) -> None:
    error = invalid_field("f", value, "other")
    assert error.message == f"f is {told}; it must be other."
    assert error.metadata["value"] == kept
