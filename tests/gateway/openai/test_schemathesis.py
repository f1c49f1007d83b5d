"""Whatever comes over HTTP, drawn from /openapi.json by schemathesis: what is wrong is refused,
every answer is as described, and none is a fault of ours.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import positive_data_acceptance
from structlog.testing import capture_logs

from gateway.openai.app import create_app
from tests.gateway.openai.checked_core import CheckedGeneration, checked_tokenization

API = schemathesis.openapi.from_asgi(
    "/openapi.json", create_app(CheckedGeneration(), checked_tokenization())
)


@pytest.fixture(autouse=True)
def nothing_at_error_level(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with capture_logs() as logs:
        yield
    assert [line for line in logs if line["log_level"] in ("error", "critical")] == []
    assert [
        record for record in caplog.get_records("call") if record.levelno >= logging.ERROR
    ] == []


@pytest.mark.slow
@API.parametrize()
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_as_described(case: schemathesis.Case[Any]) -> None:
    # What is right field by field may be wrong together, which no schema says.
    case.call_and_validate(excluded_checks=[positive_data_acceptance])
